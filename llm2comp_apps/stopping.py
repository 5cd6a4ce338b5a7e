"""How work ends that is asked to stop: by ctrl-C (SIGINT), or by a scheduler or service manager (SIGTERM)."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

__all__ = ["StopRequest", "interrupt_on_sigterm"]


class StopRequest:
    """Turns SIGINT and SIGTERM into a question that the work asks when it can stop; a second SIGINT interrupts at once.

    Use it as a context manager, in the main thread.

    Args:
        on_asked: called by the handler of the first signal, which may run in the middle of anything: no ``print``.
    """

    def __init__(self, on_asked: Callable[[], object] = lambda: None) -> None:
        self._on_asked = on_asked
        self._before: dict[signal.Signals, Any] = {}
        self._by: int | None = None

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, error: type[BaseException] | None, *details: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def asked(self) -> bool:
        """Whether to stop."""
        return self._by is not None

    def pass_on(self) -> None:
        """Raise the signal that came, if any, for whoever handles it now: it came too late to stop this work."""
        if self._by is not None:
            signal.raise_signal(self._by)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if self._by is None:
            self._by = number
            self._on_asked()
        elif number == signal.SIGINT:
            raise KeyboardInterrupt


def interrupt_on_sigterm() -> None:
    """Let SIGTERM interrupt as SIGINT does, so that what is half written is taken away; a handler stays."""
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
