from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from typing import Any

import gymnasium as gym
import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from names import shown

from steptool_env import FINISH, Malformed, Message, TextSpace, ToolCall, ToolCallSpace
from steptool_env.spaces import observation_space


def samples(schema: Any, seed: int = 0, count: int = 20, transcript: tuple[Message, ...] = ()) -> list[Any]:
    """Return samples of an argument with this schema."""
    root = {"type": "object", "properties": {"x": schema}, "required": ["x"]}
    if isinstance(schema, dict) and "$defs" in schema:
        root["$defs"] = schema["$defs"]
    return [call["arguments"]["x"] for call in calls(root, seed, count, transcript)]


def calls(root: dict[str, Any], seed: int = 0, count: int = 20, transcript: tuple[Message, ...] = ()) -> list[dict[str, Any]]:
    space = ToolCallSpace({"f": root}, seed=seed)
    space.see(transcript)
    validator = jsonschema_rs.validator_for(root)
    drawn = [space.sample() for _ in range(count)]
    for call in drawn:
        assert call["name"] == "f"
        assert validator.is_valid(call["arguments"]), f"{call['arguments']} is not valid for {root}"
        assert space.contains(call)
    return drawn


# ---------------------------------------------------------------- samples are valid calls
@pytest.mark.parametrize(
    "schema",
    [
        {"pattern": "^[A-Z]{2}-\\d{4}$"},
        {"pattern": "^CR[0-9a-fA-F]{32}$", "minLength": 34, "maxLength": 34},
        {"pattern": "^[a-z][a-z0-9-]{0,30}[a-z0-9]$", "minLength": 2},
        {"pattern": "^[a-z]+$", "minLength": 12, "maxLength": 14},
        {"pattern": "\\."},
        {"pattern": "^(?:red|green)(?<shade>-dark)?$"},
        {"pattern": "^[^/]+/[^/]+$"},
        {"pattern": "^\\p{L}+$"},
        {"pattern": "^#[0-9A-F]{6}$", "format": "color"},
        {"pattern": "^2024", "format": "date"},
        {"pattern": "^https://", "format": "uuid"},
        {"pattern": "^x{200}$"},
        {"pattern": "^(?!-)[a-z-]{3,9}$"},
    ],
    ids=str,
)
def test_samples_match_the_pattern(schema: dict[str, Any]) -> None:
    drawn = samples({"type": "string", **schema}, transcript=(Message("user", "red GH-1234 a.b"),))
    assert len(set(drawn)) > 1 or schema["pattern"] == "^x{200}$"


def test_samples_of_a_pattern_are_the_same_in_every_process() -> None:
    program = "from steptool_env import ToolCallSpace; x = {'type': 'string', 'pattern': '^[^a]{20}$'}\n"
    program += "print(ToolCallSpace({'f': {'type': 'object', 'required': ['x'], 'properties': {'x': x}}}, seed=3).sample())"

    def drawn(hashing: str) -> bytes:
        return subprocess.run([sys.executable, "-c", program], env=os.environ | {"PYTHONHASHSEED": hashing}, capture_output=True, check=True).stdout

    assert drawn("1") == drawn("2")


def test_a_pattern_that_nothing_can_be_drawn_from_costs_validity_only() -> None:
    for pattern in ("[", "^(?=b)a$", "^(a)\\2$"):
        space = ToolCallSpace({"f": {"type": "object", "required": ["x"], "properties": {"x": {"type": "string", "pattern": pattern}}}}, seed=0)
        assert isinstance(space.sample()["arguments"]["x"], str)


def test_lists_without_a_narrow_bound_stay_short() -> None:
    assert max(map(len, samples({"type": "array", "items": {"type": "integer"}, "maxItems": 1_000_000}))) < 20
    assert {len(drawn) for drawn in samples({"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True, "maxItems": 1_000_000})} <= {0, 1, 2}


def test_what_all_parts_say_of_a_property_counts() -> None:
    part = {"type": "object", "properties": {"name": {"type": "string", "minLength": 3, "pattern": "^[a-z]+$"}}, "required": ["name"]}
    samples({"allOf": [part, {"properties": {"name": {"description": "What it is called."}}}]})


NUMBERS = st.integers(-1000, 1000) | st.floats(-1000, 1000).map(lambda x: round(x, 2))


@st.composite
def ranges(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    low = draw(NUMBERS)
    high = low + draw(st.integers(3, 50))
    schema: dict[str, Any] = {"type": kind}
    if side := draw(st.sampled_from(["", "minimum", "exclusiveMinimum"])):
        schema[side] = low
    if side := draw(st.sampled_from(["", "maximum", "exclusiveMaximum"])):
        schema[side] = high
    if draw(st.booleans()):
        schema["multipleOf"] = draw(st.sampled_from([1, 0.5] if kind == "integer" else [1, 0.5, 0.25]))
    return schema


@st.composite
def texts(draw: st.DrawFn) -> dict[str, Any]:
    low = draw(st.integers(0, 12))
    return {"type": "string"} | draw(st.sampled_from([{}, {"minLength": low}, {"maxLength": low}, {"minLength": low, "maxLength": low + 3}]))


SCALARS = (
    st.sampled_from([{}, True, {"type": "boolean"}, {"type": "null"}, {"const": 5}, {"enum": ["a", 1, None, [1]]}, {"type": ["integer", "null"]}])
    | ranges("integer")
    | ranges("number")
    | texts()
)
KEYS = st.sampled_from(["a", "b", "c", "title", "$x"])


def larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def make_object(properties: dict[str, Any], required: list[str], closed: bool) -> dict[str, Any]:
        wanted = [key for key in required if key in properties or not closed]
        return {"type": "object", "properties": properties, "required": list(dict.fromkeys(wanted))} | ({"additionalProperties": False} if closed else {})

    return st.one_of(
        st.builds(make_object, st.dictionaries(KEYS, inner, max_size=3), st.lists(KEYS, max_size=3), st.booleans()),
        st.builds(lambda item, low: {"type": "array", "items": item, "minItems": low, "maxItems": low + 2}, inner, st.integers(0, 3)),
        st.builds(lambda items: {"type": "array", "prefixItems": items, "minItems": len(items), "items": False}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda branches: {"anyOf": branches}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda item, low: {"type": "object", "additionalProperties": item, "minProperties": low}, inner, st.integers(0, 2)),
    )


@given(schema=st.recursive(SCALARS, larger, max_leaves=6), seed=st.integers(0, 100))
def test_samples_are_valid_for_their_schema(schema: Any, seed: int) -> None:
    samples(schema, seed, count=5)


NEXT = {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}
NODE = {"type": "object", "properties": {"value": {"type": "integer"}, "next": NEXT}, "required": ["value", "next"]}
TREE = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}}, "required": ["children"]}
COLOR = {"enum": ["red", "blue"]}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/Color", "$defs": {"Color": COLOR}},
        {"$ref": "#/$defs/Node", "$defs": {"Node": NODE}},
        {"$ref": "#/$defs/Tree", "$defs": {"Tree": TREE}},
        {"$ref": "#/$defs/a~1b~0c", "$defs": {"a/b~c": COLOR}},
        {"allOf": [{"$ref": "#/$defs/Color"}], "description": "x", "$defs": {"Color": COLOR}},
        {"allOf": [{"properties": {"a": COLOR}, "required": ["a"]}, {"type": "object", "properties": {"b": COLOR}, "required": ["b"]}]},
        {"type": "object", "properties": {"a": COLOR, "b": COLOR}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
        {"oneOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "array", "items": {"enum": list(range(8))}, "minItems": 8, "uniqueItems": True},
        {"type": "array", "uniqueItems": True, "items": {"type": "boolean"}, "maxItems": 2},
        {"type": "integer", "minimum": -(10**30)},
        {"type": "integer", "minimum": -(2**63), "maximum": 2**63},
        {"type": "integer", "maximum": -5},
        {"type": "integer", "exclusiveMaximum": -5},
        {"type": "integer", "multipleOf": 7, "minimum": 8, "maximum": 14},
        {"type": "integer", "multipleOf": 2.5},
        {"type": "number", "maximum": -50},
        {"type": "number", "minimum": 0.12341, "maximum": 0.12342},
        {"type": "number", "minimum": 3, "maximum": 3},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1e-9},
        {"type": "number", "multipleOf": 0.25, "exclusiveMinimum": 1, "exclusiveMaximum": 1.5},
    ],
    ids=lambda schema: json.dumps(schema)[:60],
)
def test_samples_of_chosen_schemas_are_valid(schema: dict[str, Any]) -> None:
    samples(schema, count=200)


def test_a_range_is_covered_up_to_its_bounds() -> None:
    assert set(samples({"type": "integer", "minimum": 2, "maximum": 4}, count=100)) == {2, 3, 4}
    assert set(samples({"type": "integer", "exclusiveMinimum": 2, "exclusiveMaximum": 4})) == {3}
    assert set(samples({"enum": ["a", "b", 3]}, count=100)) == {"a", "b", 3}


@pytest.mark.parametrize("form", ["date", "date-time", "time", "email", "uuid", "ipv4", "uri"])
def test_formats_are_kept(form: str) -> None:
    validator = jsonschema_rs.validator_for({"type": "string", "format": form}, validate_formats=True)
    for value in samples({"type": "string", "format": form}, count=50):
        assert validator.is_valid(value), value


def test_optional_arguments_are_left_out_half_of_the_time() -> None:
    drawn = calls(dict(FINISH.parameters), count=400)
    given = sum("give_up" in call["arguments"] for call in drawn)
    assert 150 < given < 250
    assert all("answer" in call["arguments"] for call in drawn)


def test_a_schema_that_can_never_end_still_ends() -> None:
    space = ToolCallSpace({"f": {"type": "object", "properties": {"x": {"$ref": "#"}}, "required": ["x"]}}, seed=0)
    assert space.contains(space.sample())


def test_texts_come_from_the_transcript() -> None:
    transcript = (
        Message("user", 'Where is order "o17"?'),
        Message("assistant", '{"name": "secret"}'),
        Message("tool", '{"id": "c4", "lines": [{"price": 12.5, "paid": true}]}'),
        Message("tool", "plain words"),
        Message("tool", "[" * 100_000),
    )
    drawn = set(samples({"type": "string", "maxLength": 20}, count=500, transcript=transcript))
    assert drawn >= {"Where", "is", "order", "o17", "c4", "12.5", "plain words"}
    assert not drawn & {"secret", "True", '"o17"?'}
    assert set(samples({"type": "string", "minLength": 2, "maxLength": 3}, count=300, transcript=transcript)) >= {"is", "o17", "c4"}


def test_every_tool_on_offer_is_called_and_only_those() -> None:
    space = ToolCallSpace({"f": {"type": "object"}, "g": {"type": "object"}}, seed=0)
    assert {space.sample()["name"] for _ in range(50)} == {"f", "g"}
    space.offer({"h": {"type": "object"}})
    assert {space.sample()["name"] for _ in range(50)} == {"h"}


def test_a_space_without_tools_has_samples() -> None:
    space = ToolCallSpace(seed=0)
    assert space.contains(space.sample())


# ---------------------------------------------------------------- what holds for all spaces
SPACES = {
    "text": TextSpace,
    "call": lambda seed=None: ToolCallSpace({"finish": FINISH.parameters}, seed=seed),
    "observation": lambda seed=None: _seeded(observation_space(), seed),
}


def _seeded(space: gym.Space[Any], seed: int | None) -> gym.Space[Any]:
    space.seed(seed)
    return space


each_space = pytest.mark.parametrize("make", SPACES.values(), ids=list(SPACES))


@each_space
def test_samples_are_contained_and_repeat_with_the_seed(make: Any) -> None:
    one, two, other = make(seed=3), make(seed=3), make(seed=4)
    drawn = [one.sample() for _ in range(20)]
    assert all(one.contains(value) for value in drawn)
    assert drawn == [two.sample() for _ in range(20)]
    assert drawn != [other.sample() for _ in range(20)]
    one.seed(3)
    assert drawn == [one.sample() for _ in range(20)]


@each_space
def test_copies_go_on_where_the_original_stood(make: Any) -> None:
    space = make(seed=3)
    space.sample()
    copies = [copy.deepcopy(space), pickle.loads(pickle.dumps(space))]
    after = [space.sample() for _ in range(5)]
    for twin in copies:
        assert twin == space
        assert [twin.sample() for _ in range(5)] == after


@each_space
def test_equality_and_text(make: Any) -> None:
    assert make() == make()
    assert make() != gym.spaces.Discrete(2)
    assert "Space" in repr(make())
    assert not make().is_np_flattenable
    others = [other() for other in SPACES.values() if other is not make]
    assert all(make() != other for other in others)


def test_equal_spaces_have_equal_hashes() -> None:
    assert len({TextSpace(), TextSpace()}) == 1
    assert len({ToolCallSpace(), ToolCallSpace({"f": {"type": "object"}})}) == 1  # which tools are on offer changes with the episode


@pytest.mark.parametrize(
    ("value", "inside"),
    [
        ({"name": "f", "arguments": {}}, True),
        ({"name": "", "arguments": {"é": object()}}, True),
        (ToolCall("f"), True),
        (Malformed("x", "y"), True),
        ({"name": "f"}, False),
        ({"name": 1, "arguments": {}}, False),
        ({"name": "f", "arguments": []}, False),
        ({"name": "f", "arguments": {1: 2}}, False),
        ({"name": "f", "arguments": {}, "id": 1}, False),
        ("f", False),
        (None, False),
    ],
    ids=shown,
)
def test_which_actions_are_calls(value: Any, inside: bool) -> None:
    assert ToolCallSpace().contains(value) is inside


@pytest.mark.parametrize(
    ("value", "inside"),
    [
        ({"messages": (Message("user", "é"), ("tool", "")), "tools": "[]"}, True),
        ({"messages": (), "tools": ""}, True),
        ({"messages": (("user",),), "tools": "[]"}, False),
        ({"messages": (("user", 1),), "tools": "[]"}, False),
        ({"messages": (), "tools": None}, False),
        ({"messages": ()}, False),
    ],
    ids=shown,
)
def test_which_observations_are_inside(value: Any, inside: bool) -> None:
    assert observation_space().contains(value) is inside


def test_samples_of_observations_are_messages() -> None:
    space = observation_space()
    space.seed(0)
    seen = [message for _ in range(20) for message in space.sample()["messages"]]
    assert seen
    assert all(isinstance(message, Message) for message in seen)
