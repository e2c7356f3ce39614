"""What ``step`` makes of an action: the fast path for calls with texts and numbers agrees with JSON, and keeps nothing of the caller's."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from calls import JSON, TEXT
from hypothesis import example, given
from hypothesis import strategies as st

from steptool_env import Malformed, ToolCall
from steptool_env.actions import read
from steptool_env.jsontext import MAX_CHARS

SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT


@given(name=TEXT, arguments=st.dictionaries(TEXT, SCALAR, max_size=4) | st.dictionaries(TEXT, JSON, max_size=3))
@example(name="f", arguments={"x": True, "y": -0.0, "z": 1e300, "n": 10**40})
@example(name='"', arguments={"\\": "\x7f\u2028", "": ""})
def test_text_and_call_are_what_json_makes_of_it(name: str, arguments: dict[str, Any]) -> None:
    expected = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    for action in ({"name": name, "arguments": arguments}, ToolCall(name, arguments, ("comment",))):
        call, text = read(action)
        assert text == expected
        assert isinstance(call, ToolCall) and call.name == name
        assert repr(call.arguments) == repr(json.loads(text)["arguments"])  # repr: True is not 1, and 1.0 is not 1
        assert call.repaired == (("comment",) if isinstance(action, ToolCall) else ())


@pytest.mark.parametrize("value", ["here", 3, ["a"], {"b": [1]}])
def test_a_caller_who_changes_the_arguments_later_changes_nothing(value: Any) -> None:
    arguments = {"x": value}
    for action in ({"name": "f", "arguments": arguments}, ToolCall("f", arguments)):
        call, _ = read(action)
        arguments["y"] = 1
        if isinstance(value, list):
            value.append("b")
        assert isinstance(call, ToolCall) and list(call.arguments) == ["x"] and (not isinstance(value, list) or call.arguments["x"] == ["a"])
        del arguments["y"]
        if isinstance(value, list):
            value.pop()


def test_a_call_that_nobody_else_holds_is_not_copied() -> None:
    call = ToolCall("f", {"x": "é"})
    assert read(call, own=True)[0] is call
    deep = ToolCall("f", {"x": [1]})
    assert read(deep, own=True) == (deep, '{"name": "f", "arguments": {"x": [1]}}')


@pytest.mark.parametrize("bad", [math.nan, math.inf, 10**5000, "\ud800", "x" * MAX_CHARS], ids=["nan", "inf", "digits", "surrogate", "long"])
@pytest.mark.parametrize("own", [False, True])
def test_what_json_cannot_hold_is_refused_or_cleaned(bad: Any, own: bool) -> None:
    call, text = read(ToolCall("f", {"x": bad}), own=own)
    if bad == "\ud800":
        assert (call, text) == (ToolCall("f", {"x": "?"}), '{"name": "f", "arguments": {"x": "?"}}')
    else:
        assert isinstance(call, Malformed) and text == call.text
    text.encode()
