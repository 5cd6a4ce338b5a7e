"""One thread at a time: for all who ask, until the last one is done."""

from __future__ import annotations

import torch

from llm2comp_apps.encoder.threads import one_thread


def test_the_number_of_threads_comes_back_when_the_last_one_leaves():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        first, second = one_thread(), one_thread()
        first.__enter__()
        second.__enter__()
        assert torch.get_num_threads() == 1
        first.__exit__(None, None, None)
        assert torch.get_num_threads() == 1, "another one is still inside"
        second.__exit__(None, None, None)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
