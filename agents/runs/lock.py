"""One writer per folder: a run, a cell of a grid, a grid, a search for settings.

The lock is one of the operating system (``flock`` where there is one): it ends with its process, however that ends, so that a killed run
blocks nobody. Of several processes of one run, the main one holds it. Readers take no lock.
"""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from steptool_env.errors import CheckpointError
from steptool_env.files import read_json, write_json

__all__ = ["WriterLock"]

LOCK, HOLDER = ".lock", ".writer.json"


class WriterLock:
    """The right to write into a folder; held from its creation until ``release``. A context manager.

    Args:
        folder: The folder; made if it does not exist.
        wait: Seconds to wait for another writer to end.

    Raises:
        CheckpointError: Another process, or another run in this one, writes into the folder; the message names it.
        OSError: The folder cannot be written.
    """

    def __init__(self, folder: Path, *, wait: float = 0.0) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / LOCK, timeout=wait, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout:
            raise CheckpointError(f"{folder} is being written by {_holder(folder)}; wait until it has ended, end it, or use another folder") from None
        try:
            write_json(folder / HOLDER, {"process": os.getpid(), "host": platform.node(), "since": datetime.now().isoformat(" ", "seconds")})
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let others write; safe to call twice."""
        if not self._lock.is_locked:
            return
        # While it is still held: whoever has opened the file meanwhile sees that it is gone, and opens the next one.
        for name in (HOLDER, LOCK):
            with suppress(OSError):  # the folder was deleted, or the system does not delete open files
                (self.folder / name).unlink()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        self.release()


def _holder(folder: Path) -> str:
    try:
        about = read_json(folder / HOLDER)
        here = "this process" if (about["process"], about["host"]) == (os.getpid(), platform.node()) else f"process {about['process']} on {about['host']}"
        return f"{here} since {about['since']}"
    except (OSError, ValueError, TypeError, LookupError):  # it has just begun, or ended
        return "another process"
