"""What is wrong with arguments: right for any value, and no slower for large ones than looking at them once."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steptool_env import Tool, ToolCall, Toolkit
from steptool_env.actions import as_action
from steptool_env.jsontext import MAX_CHARS, depth_fault, dumps
from steptool_env.tools import checking
from steptool_env.tools.checking import faults_of

INTEGERS = {"type": "array", "items": {"type": "integer"}}
NAMES = {"type": "object", "additionalProperties": {"type": "integer"}}
DEEP = {"type": "array", "items": {"type": "array", "items": INTEGERS}}


def faults(schema: Any, value: Any) -> list[str]:
    return faults_of(jsonschema_rs.validator_for(json.dumps({"type": "object", "properties": {"x": schema}})), {"x": value})


CASES: dict[str, tuple[Any, Any, list[str]]] = {
    "all wrong": (INTEGERS, ["a"] * 160_000, ["x.0", "x.1", "x.2"]),
    "the last ones": (INTEGERS, [1] * 100_000 + ["a"] * 60_000, ["x.100000", "x.100001", "x.100002"]),
    "one": (INTEGERS, [1] * 100_000 + ["a"], ["x.100000"]),
    "names": (NAMES, {f"k{number:06}": "a" for number in range(60_000)}, ["x.k000000", "x.k000001", "x.k000002"]),
    "nested": (DEEP, [[["a"] * 20] * 60] * 100, ["x.0.0.0", "x.0.0.1", "x.0.0.2"]),
    "deep inside": (DEEP, [[[1] * 20] * 60] * 99 + [[[1] * 20] * 59 + [[1] * 19 + ["a"]]], ["x.99.59.19"]),
    "too few": ({**INTEGERS, "minItems": 99_999}, [1] * 50_000, ["x"]),
    "too few, and wrong": ({**INTEGERS, "minItems": 99_999}, ["a"] * 10 + [1] * 20_000, ["x", "x.0", "x.1"]),
    "too many": ({**INTEGERS, "maxItems": 9}, [1] * 50_000, ["x"]),
    "not unique": ({**INTEGERS, "uniqueItems": True}, [*range(50_000), 7], ["x"]),
    "not needed": ({**INTEGERS, "minItems": 40_000}, [*[1] * 39_999, "a"], ["x.39999"]),
}


@pytest.mark.parametrize("case", CASES)
def test_large_arguments_have_their_faults_told(case: str) -> None:
    schema, value, expected = CASES[case]
    assert len(dumps(value)) > 20_000
    found = [fault.partition(":")[0] for fault in faults(schema, value)]
    assert found == expected


def test_long_arguments_are_not_looked_into() -> None:
    assert faults(INTEGERS, ["a"] * MAX_CHARS) == [f"they take {len(dumps({'x': ['a'] * MAX_CHARS}))} characters; {MAX_CHARS} are allowed"]
    assert str(MAX_CHARS) in as_action({"name": "f", "arguments": {"x": "a" * MAX_CHARS}}).reason  # type: ignore[union-attr]
    assert len(as_action({"name": "f", "arguments": {"x": ["a" * MAX_CHARS]}}).text) <= 200  # type: ignore[union-attr]
    assert isinstance(as_action({"name": "f", "arguments": {"x": "a" * (MAX_CHARS - 100)}}), ToolCall)


SCHEMAS = st.sampled_from([INTEGERS, NAMES, DEEP, {"anyOf": [INTEGERS, NAMES]}, {**INTEGERS, "minItems": 3}, {"type": "array", "uniqueItems": True}])
VALUES = st.recursive(
    st.integers(0, 3) | st.just("a"), lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.sampled_from("abcdefgh"), inner), max_leaves=60
)


@settings(max_examples=100)
@given(schema=SCHEMAS, value=VALUES)
def test_what_an_excerpt_tells_is_so(schema: Any, value: Any) -> None:
    validator = jsonschema_rs.validator_for(json.dumps({"type": "object", "properties": {"x": schema}}))
    everything = {".".join(map(str, error.instance_path)) for error in validator.iter_errors({"x": value})}
    before = checking._SMALL, checking._KEPT, checking._MOST_ITEMS
    checking._SMALL, checking._KEPT, checking._MOST_ITEMS = 0, 1, 10
    try:
        told = faults_of(validator, {"x": value})
    finally:
        checking._SMALL, checking._KEPT, checking._MOST_ITEMS = before
    assert {fault.partition(":")[0] for fault in told} <= everything
    assert bool(told) == bool(everything)


def test_the_validator_is_not_asked_for_every_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Counts:
        def __init__(self, schema: str) -> None:
            self.inner = jsonschema_rs.validator_for(schema)

        def is_valid(self, value: Any) -> bool:
            return self.inner.is_valid(value)

        def validate(self, value: Any) -> None:
            self.inner.validate(value)

        def iter_errors(self, value: Any) -> Any:
            asked.append(len(dumps(value)))
            return self.inner.iter_errors(value)

    validator: Any = Counts(json.dumps({"type": "object", "properties": {"x": DEEP}}))
    for value in ([[["a"] * 160_000]], [[["a"]] * 50_000], [[["a"] * 3] * 100] * 300, [[["a" * 10] * 8] * 8] * 900):
        assert len(faults_of(validator, {"x": value})) == 3
    assert max(asked) < 50_000


# ---------------------------------------------------------------- depth
ANY = st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(value=ANY, limit=st.integers(0, 4))
def test_depth_is_that_of_the_value(value: Any, limit: int) -> None:
    def depth(one: Any) -> int:
        return 1 + max(map(depth, one.values() if isinstance(one, dict) else one), default=0) if isinstance(one, dict | list) else 0

    assert bool(depth_fault(dumps(value), limit)) == (depth(value) > limit)


@given(text=st.text(st.sampled_from('[]{}"\\a'), max_size=40))
def test_depth_of_any_text_is_counted_outside_of_strings(text: str) -> None:
    deepest, depth, quoted, escaped = 0, 0, False, False
    for char in text:
        if quoted:
            quoted, escaped = escaped or char != '"', char == "\\" and not escaped
        elif char == '"':
            quoted = True
        else:
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(char, 0)
            deepest = max(deepest, depth)
    assert bool(depth_fault(text, 2)) == (deepest > 2)


def test_of_a_long_result_only_what_is_shown_is_looked_into() -> None:
    flat, deep = [[{"a": 1}]] * 100_000, [[[[1]]] * 10]
    for _ in range(70):
        deep = [deep]
    kit = Toolkit([Tool("f", "", {"type": "object"}, lambda which: {"flat": flat, "tail": [*flat, deep], "head": [deep, *flat]}[which])])
    assert kit.execute(ToolCall("f", {"which": "flat"})).content.endswith("characters in all]")
    assert not kit.execute(ToolCall("f", {"which": "tail"})).error  # what is cut off is no JSON any more
    assert kit.execute(ToolCall("f", {"which": "head"})).error == "tool_failed"
