"""Indexes that follow folders while they are served.

The folder is looked at by :class:`llm2comp_apps.FolderWatch`; what is new is encoded by the engine, behind queries.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from llm2comp_apps import FolderWatch
from llm2comp_apps.serving.calm import calmly
from llm2comp_apps.serving.generations import ServedIndex

__all__ = ["Follower"]

LOGGER = logging.getLogger(__name__)
_RETRY_SECONDS = 30.0


class Follower:
    """Keeps one served index as a folder is, in a thread of its own that nothing but :meth:`close` ends.

    Args:
        served: the index.
        folder: that it follows.
        interval: seconds between two looks.
        retry: seconds until the next try after a failure, such as a full disk.

    Raises:
        UsageError: there is no such folder.
    """

    def __init__(
        self, served: ServedIndex, folder: str | Path, *, interval: float = 2.0, retry: float = _RETRY_SECONDS
    ) -> None:
        FolderWatch(served.collection, folder).close()  # complains now, not in the thread
        self._served = served
        self._folder = folder
        self._interval = interval
        self._retry = retry
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"follow {served.name}", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """End the thread, after the slice of documents that it encodes."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(30)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                calmly(self._follow)
            except Exception:
                LOGGER.exception("%s cannot follow %s; tried again", self._served.path, self._folder)
                self._stop.wait(self._retry)

    def _follow(self) -> None:
        engine = self._served.engine
        if engine is None:
            raise RuntimeError("nobody knows the encoder of this index")
        while not engine.loaded.done():
            if self._stop.wait(0.1):
                return
        with self._served.opened_for_writing() as library, FolderWatch(library, self._folder) as watch:
            watch.run(interval=self._interval, should_stop=self._stop.is_set, on_report=self._report)

    def _report(self, report: object) -> None:
        self._served.refresh()
        LOGGER.info("%s: %s", self._served.path, report)
        for line in getattr(report, "warnings", ()):
            LOGGER.warning("%s: %s", self._served.path, line)
