"""A device is checked in one place, before anything is loaded."""

from __future__ import annotations

import pytest
import torch

from llm2comp_apps.encoder.devices import check_device
from llm2comp_apps.errors import UsageError


@pytest.mark.parametrize("device", [None, "cpu", "cpu:0"])
def test_what_is_always_there_passes(device):
    check_device(device)


def test_a_device_that_is_none_is_refused():
    with pytest.raises(UsageError, match="device must be cpu, cuda, cuda:1 or mps, not 'foo'"):
        check_device("foo")


def test_a_gpu_is_refused_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UsageError, match="device cuda: torch finds none here"):
        check_device("cuda")


def test_the_number_of_a_gpu_counts(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_device("cuda:1")
    with pytest.raises(UsageError, match="device cuda:2: torch finds 2 here"):
        check_device("cuda:2")
