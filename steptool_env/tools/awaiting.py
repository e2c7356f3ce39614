"""``Awaited``: an ``async def`` as a function that returns its result, whoever calls it, also from within a running event loop.

All coroutines run in one event loop, in a thread of its own: so they wait side by side, and what belongs to a loop (a client's
connections, a lock) stays usable from one call to the next, which it would not with a new loop for each.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

__all__ = ["Awaited", "Background", "background", "run"]


@dataclass(frozen=True)
class Awaited:
    """Calls an async function and waits for its result.

    Args:
        function: An async function, or whatever else returns something to wait for; another result is returned as it is.
        timeout: Seconds after which the coroutine is canceled, and ``TimeoutError`` raised; None waits for ever.
    """

    function: Callable[..., Any]
    timeout: float | None = None

    def __call__(self, /, *positional: Any, **named: Any) -> Any:
        value = self.function(*positional, **named)
        return run(_wait_for(value), self.timeout) if inspect.isawaitable(value) else value


async def _wait_for(value: Awaitable[Any]) -> Any:
    return await value


def run(coroutine: Coroutine[Any, Any, Any], timeout: float | None = None) -> Any:
    """Run a coroutine to its end and return its result; raises what it raises, and ``TimeoutError``."""
    home = background("async")
    if home.thread is threading.current_thread():  # an async tool that calls another one: the loop cannot wait for itself
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            return pool.submit(asyncio.run, asyncio.wait_for(coroutine, timeout)).result()
    waiting = asyncio.run_coroutine_threadsafe(coroutine, home.loop)
    try:
        return waiting.result(timeout)
    except BaseException as fault:  # Ctrl-C, too
        late = not waiting.done()
        waiting.cancel()
        if late and isinstance(fault, TimeoutError):
            raise TimeoutError(f"no result within {timeout:g} s") from None
        raise


class Background:
    """An event loop in a daemon thread of this process."""

    def __init__(self, name: str) -> None:
        self.process = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True, name=f"steptool-{name}")
        self.thread.start()


_lock = threading.Lock()
_shared: dict[str, Background] = {}


def background(name: str) -> Background:
    """Return the loop of this name, the same for all who ask in this process."""
    with _lock:
        found = _shared.get(name)
        if found is None or found.process != os.getpid():  # a fork copies the loop, but not its thread
            found = _shared[name] = Background(name)
        return found


def _new_lock() -> None:
    global _lock
    _lock = threading.Lock()  # a fork may have copied it while another thread held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)
