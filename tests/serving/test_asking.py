"""Who asks shards is freed when the connections are closed."""

from __future__ import annotations

import asyncio
import threading

import pytest

from llm2comp_apps.serving.shards.asking import Asker


def test_who_waits_is_freed_also_where_what_is_dropped_takes_its_time(monkeypatch):
    asker, begun, ended = Asker([], key=None, count=lambda *_: None), threading.Event(), []

    async def slow_to_end(*_: object) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.2)

    def wait() -> None:
        try:
            asker.look(60.0)
        except BaseException as error:  # noqa: BLE001 - however it ends
            ended.append(error)

    monkeypatch.setattr(asker, "_look_at_all", slow_to_end)
    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    assert begun.wait(10)
    asker.close()
    waiting.join(20)
    assert len(ended) == 1
    with pytest.raises(RuntimeError, match=r"^the connections to the shards are closed$"):
        asker.look(1.0)
    asker.close()  # once more does no harm
