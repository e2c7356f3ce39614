"""Async functions, run by whoever calls them."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from steptool_env import ToolCall, Toolkit, tool
from steptool_env.tools.awaiting import Awaited, run


async def loop_of() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


async def add(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


def test_all_calls_share_a_loop_so_that_what_belongs_to_it_lives_on() -> None:
    assert run(loop_of()) is run(loop_of())
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda n: Awaited(add)(n, b=1), range(20))) == list(range(1, 21))


def test_calls_wait_side_by_side() -> None:
    met = 0

    async def meet() -> int:
        nonlocal met
        met += 1
        while met < 8:
            await asyncio.sleep(0.001)
        return met

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: run(meet(), 60), range(8))) == [8] * 8


def test_what_it_raises_is_raised() -> None:
    async def fail() -> None:
        raise LookupError("nothing")

    async def late() -> None:
        raise TimeoutError("of its own")

    with pytest.raises(LookupError, match="nothing"):
        run(fail(), 60)
    with pytest.raises(TimeoutError, match="of its own"):
        run(late(), 60)


def test_one_that_hangs_is_canceled() -> None:
    canceled = threading.Event()

    async def hang() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            canceled.set()

    with pytest.raises(TimeoutError, match=r"no result within 0\.05 s"):
        run(hang(), 0.05)
    assert canceled.wait(60)


def test_an_async_tool_may_call_another_one() -> None:
    inner = Toolkit([tool(add, timeout=None)])

    async def outer(a: int) -> str:
        return inner.execute(ToolCall("add", {"a": a, "b": 1})).content

    assert Toolkit([tool(outer, timeout=None)]).execute(ToolCall("outer", {"a": 1})).content == "2"


def _in_child(queue: Any) -> None:
    queue.put(run(add(1, 2), 60))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_a_loop_of_its_own() -> None:
    assert run(add(1, 1)) == 2
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert queue.get() == 3
