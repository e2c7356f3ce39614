"""Processes for parts of an experiment: each writes a log, has one thread, and ends when the experiment does, also by a kill."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["DYING", "end_with_parent", "pipe", "run_child"]

DYING = 60.0
"""Seconds to wait for the same part of an experiment that was killed a moment ago."""


@contextmanager
def pipe() -> Iterator[int]:
    """Give the end of a pipe that reaches its end of file when this process ends, however it does."""
    read, write = os.pipe()
    try:
        yield read
    finally:
        os.close(write)
        os.close(read)


def run_child(module: str, *arguments: str, log: Path, alive: int) -> int:
    """Run ``python -m module arguments``; return its exit status, negative if a signal ended it.

    A process that is killed writes nothing itself, so the log says it then.

    Args:
        module: A module of this package; it calls ``end_with_parent``.
        arguments: Its arguments.
        log: What it writes is appended to this file.
        alive: From ``pipe``.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"{__package__}.{module}", *arguments]
    with open(log, "ab") as file:
        code = subprocess.run(command, stdin=alive, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **threads}, check=False).returncode
        if code < 0:
            why = "; systems do this when memory runs out: run fewer processes at once, and then go on" if code == -signal.SIGKILL else ""
            file.write(f"\nThis process was ended by {signal.strsignal(-code)} (signal {-code}){why}.\n".encode())
    return code


def end_with_parent() -> None:
    """End this process when the one that started it ends: nobody waits for it, and the next experiment must not find it at work."""
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=_end, daemon=True).start()


def _end() -> None:
    os.read(0, 1)  # nobody writes
    os._exit(1)
