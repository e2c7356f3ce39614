"""Work in the background, in a thread that does not keep the program from ending: what it does may wait for a server that never answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

__all__ = ["background"]

T = TypeVar("T")


def background(work: Callable[[], T], name: str) -> Future[T]:
    """Start some work in a thread of its own; the result has what it returns or raises.

    Args:
        work: What is done; it must not take part in what all processes do together, whose order is that of the main thread.
        name: Of the thread.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = work()
        except BaseException as fault:
            future.set_exception(fault)
        else:
            future.set_result(result)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
