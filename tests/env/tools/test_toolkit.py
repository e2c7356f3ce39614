from __future__ import annotations

import enum
import json
import math
import multiprocessing
import os
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from names import shown
from toy import Counter, add, fail, phone, roll

from steptool_env import ERRORS, FINISH, Tool, ToolCall, Toolkit, ToolResult, tool
from steptool_env.errors import InvalidArgument, ToolError, Unavailable

ANYTHING = {"type": "object"}


def run(function: Callable[..., Any], timeout: float | None = None, **arguments: Any) -> ToolResult:
    return Toolkit([Tool("f", "", ANYTHING, function, timeout=timeout)]).execute(ToolCall("f", arguments))


def raising(fault: BaseException) -> Callable[[], Any]:
    def function() -> Any:
        raise fault

    return function


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def cycle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def workers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "steptool-tool"}


def no_worker_left(before: set[threading.Thread]) -> bool:
    """Whether the worker threads that came since end, but for one that is free to be used again."""
    for _ in range(200):
        if len(workers() - before) <= 1:
            return True
        time.sleep(0.01)
    return False


# ---------------------------------------------------------------- a mapping of tools
def test_a_toolkit_is_a_mapping_that_can_finish() -> None:
    kit = Toolkit([add])
    assert dict(kit) == {"add": add, "finish": FINISH}
    assert json.loads(kit.schemas) == [add.schema, FINISH.schema]
    assert kit.parameters == {"add": add.parameters, "finish": FINISH.parameters}
    own = Tool("finish", "Mine.", ANYTHING, print)
    assert Toolkit([own])["finish"] is own


def test_functions_are_decorated() -> None:
    def double(x: int) -> int:
        return 2 * x

    assert Toolkit([double]).execute(ToolCall("double", {"x": 4})) == ToolResult("8")


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="two tools are called 'add'"):
        Toolkit([add, add])


# ---------------------------------------------------------------- results
@pytest.mark.parametrize(
    ("value", "content"),
    [
        ("as it is", "as it is"),
        ("", ""),
        (7, "7"),
        (None, "null"),
        (True, "true"),
        ({"é": [1, 2.5, None]}, '{"é": [1, 2.5, null]}'),
        ((1, 2), "[1, 2]"),
        (enum.StrEnum("E", {"A": "a"}).A, "a"),
        ("a\ud800b\0é", "a?b\0é"),
        (["\udfff"], '["?"]'),
    ],
    ids=shown,
)
@pytest.mark.parametrize("timeout", [None, 5.0], ids=["here", "thread"])
def test_results_are_text(value: Any, content: str, timeout: float | None) -> None:
    result = run(lambda: value, timeout)
    assert result == ToolResult(content)
    assert type(result.content) is str


NO_JSON = {"object": object(), "bytes": b"bytes", "nested": nested(100_000), "key": {frozenset([1]): 3}, "huge": 10**5000, "cycle": cycle()}


@pytest.mark.parametrize("kind", NO_JSON)
def test_results_that_are_no_json_are_a_fault_of_the_tool(kind: str) -> None:
    result = run(lambda: NO_JSON[kind])
    assert result.error == "tool_failed"
    assert result.content.startswith("Error: f failed: ")


def test_megabytes_are_cut_with_a_mark() -> None:
    kit = Toolkit([Tool("f", "", ANYTHING, lambda: "x" * 5_000_000), Tool("g", "", ANYTHING, lambda: ToolResult("y" * 200))], max_result_chars=100)
    assert kit.execute(ToolCall("f", {})) == ToolResult("x" * 100 + " … [cut: 5000000 characters in all]")
    assert kit.execute(ToolCall("g", {})).content == "y" * 100 + " … [cut: 200 characters in all]"


def test_a_tool_may_return_a_result_with_an_error() -> None:
    assert run(lambda: ToolResult("no such order", "tool_failed")) == ToolResult("no such order", "tool_failed")
    assert run(lambda: ToolResult("lone \ud800")) == ToolResult("lone ?")
    assert run(lambda: ToolResult({"x": 1})) == ToolResult('{"x": 1}')  # type: ignore[arg-type]


# ---------------------------------------------------------------- mistakes of the model
def test_an_unknown_tool_is_answered_with_those_that_exist() -> None:
    result = Toolkit([add]).execute(ToolCall("ad", {}))
    assert result == ToolResult("Error: there is no tool 'ad'. Did you mean 'add'? Tools on offer: add, finish.", "unknown_tool")
    assert len(Toolkit([add]).execute(ToolCall("x" * 1_000_000, {})).content) < 1000
    Toolkit([add]).execute(ToolCall("\ud800", {})).content.encode("utf-8")


@pytest.mark.parametrize("name", [None, 7, [], object()], ids=shown)
def test_a_name_that_is_no_text_is_an_unknown_tool(name: Any) -> None:
    assert Toolkit([add]).execute(ToolCall(name, {})).error == "unknown_tool"


WRONG: dict[str, Any] = {
    "missing": {},
    "type": {"amount": "x"},
    "more": {"amount": 1, "more": 2},
    "object": {"amount": object()},
    "set": {"amount": {1}},
    "nan": {"amount": math.nan},
    "key": {1: 2},
    "none": None,
    "number": 7,
    "surrogate": {"\ud800": 1},
    "nested": {"amount": nested(100_000)},
    "cycle": {"amount": cycle()},
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_arguments_are_answered_with_what_is_expected(kind: str) -> None:
    state = Counter()
    result = Toolkit([add], state).execute(ToolCall("add", WRONG[kind]))
    assert result.error == "bad_arguments"
    assert result.content.startswith("Error: wrong arguments for add: ")
    assert result.content.endswith("It takes: amount.")
    result.content.encode("utf-8")
    assert state.value == 0


def test_any_mapping_of_arguments_will_do() -> None:
    assert Toolkit([add], Counter()).execute(ToolCall("add", types.MappingProxyType({"amount": 2}))).content == "The counter shows 2."


# ---------------------------------------------------------------- faults of the tool
class Rude(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("timeout", [None, 5.0], ids=["here", "thread"])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (RuntimeError("boom"), "tool_failed"),
        (ValueError("x" * 100_000), "rejected"),
        (KeyError("x"), "rejected"),
        (ToolError("no such order"), "rejected"),
        (RecursionError(), "tool_failed"),
        (MemoryError(), "tool_failed"),
        (StopIteration(), "tool_failed"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "lone \ud800"), "rejected"),
        (Rude(), "tool_failed"),
        (SystemExit(3), "tool_failed"),
        (GeneratorExit(), "tool_failed"),
        (BaseException("base"), "tool_failed"),
        (TimeoutError("slow server"), "transient"),
        (Unavailable("server down"), "unavailable"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value,
)
def test_whatever_a_tool_raises_is_a_result(fault: BaseException, error: str, timeout: float | None) -> None:
    result = run(raising(fault), timeout)
    assert result.error == error
    assert len(result.content) < 700
    result.content.encode("utf-8")


def test_a_tool_that_calls_sys_exit_ends_nothing() -> None:
    assert run(lambda: sys.exit(1), 5.0).content == "Error: f failed: SystemExit: 1"


@pytest.mark.parametrize("timeout", [None, 5.0], ids=["here", "thread"])
def test_ctrl_c_goes_through(timeout: float | None) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(raising(KeyboardInterrupt()), timeout)
    assert run(lambda: "next", timeout) == ToolResult("next")


def test_a_tool_that_hangs_times_out_and_leaves_no_thread_behind() -> None:
    before = workers()
    release = threading.Event()
    start = time.monotonic()
    result = run(release.wait, 0.05)
    assert time.monotonic() - start < 5
    assert result == ToolResult("Error: f timed out: no result within 0.05 s", "transient")
    assert run(lambda: "next", 5.0) == ToolResult("next")  # it does not wait for the one that hangs
    release.set()
    assert no_worker_left(before)


def test_threads_that_call_tools_take_their_workers_along() -> None:
    before = workers()
    threads = [threading.Thread(target=run, args=(lambda: 1, 5.0)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert no_worker_left(before)


def _in_child(queue: Any) -> None:
    queue.put(run(lambda: "from the child", 5.0))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_a_worker_of_its_own() -> None:
    assert run(lambda: "from the parent", 5.0).content == "from the parent"
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert queue.get() == ToolResult("from the child")


def test_a_worker_keeps_nothing_of_the_last_call_alive() -> None:
    import gc
    import weakref

    class State: ...

    state = State()
    kit = Toolkit([Tool("f", "", ANYTHING, lambda state: "done", stateful=True, timeout=5.0)], state)
    assert kit.execute(ToolCall("f", {})).content == "done"
    gone = weakref.ref(state)
    del state, kit
    for _ in range(100):
        gc.collect()
        if gone() is None:
            break
        time.sleep(0.01)
    assert gone() is None


NAMES = st.sampled_from(["add", "roll", "fail", "phone", "finish", "f"]) | st.text(st.characters())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()), lambda s: st.lists(s) | st.dictionaries(st.text(), s), max_leaves=8
)


@given(name=NAMES, arguments=st.dictionaries(st.text(st.characters()), JSON) | JSON)
def test_execute_is_total(name: str, arguments: Any) -> None:
    result = Toolkit([add, roll, fail, phone], Counter()).execute(ToolCall(name, arguments))
    assert isinstance(result, ToolResult)
    assert result.error in ERRORS
    result.content.encode("utf-8")


# ---------------------------------------------------------------- state
def test_a_snapshot_can_be_restored_many_times() -> None:
    kit = Toolkit([add, roll], Counter())
    kit.execute(ToolCall("add", {"amount": 2}))
    saved = kit.snapshot()
    rolls = [kit.execute(ToolCall("roll", {})).content for _ in range(5)]
    kit.execute(ToolCall("add", {"amount": 5}))
    for _ in range(2):
        kit.restore(saved)
        assert kit.state.value == 2
        assert [kit.execute(ToolCall("roll", {})).content for _ in range(5)] == rolls
        kit.execute(ToolCall("add", {"amount": 1}))


def test_a_tool_without_state_takes_none() -> None:
    @tool(timeout=None)
    def echo(text: str) -> str:
        return text

    assert Toolkit([echo], Counter()).execute(ToolCall("echo", {"text": "é"})) == ToolResult("é")
