"""OpenAPI's schemas as JSON Schema: what they allow, and that samples are what they allow."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from steptool_env import ToolCallSpace
from steptool_env.tools.openapi.document import Document, Unusable
from steptool_env.tools.openapi.schemas import Schemas

TREE = {"type": "object", "properties": {"value": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}}}}


def converted(schema: Any, version: str = "3.0.3", **components: Any) -> dict[str, Any]:
    """Return the schema of an argument ``x``, closed."""
    schemas = Schemas(Document({"openapi": version, "paths": {}, "components": {"schemas": components}}))
    return schemas.close({"type": "object", "properties": {"x": schemas.convert(schema, "")}, "required": ["x"]})


@pytest.mark.parametrize(
    ("schema", "fits", "faults"),
    [
        ({"type": "string", "nullable": True}, ["a", None], [1]),
        ({"type": "string", "enum": ["a"], "nullable": True}, ["a", None], ["b"]),
        ({"enum": ["a"], "nullable": True}, ["a", None], ["b"]),
        ({"nullable": True, "allOf": [{"type": "object", "required": ["a"]}]}, [{"a": 1}, None], [{}, 1]),
        ({"nullable": True, "oneOf": [{"type": "string"}, {"type": "integer"}]}, ["a", 1, None], [True]),
        ({"nullable": True, "type": "object", "allOf": [{"properties": {"a": {"type": "string"}}}]}, [{"a": "x"}, None], [{"a": 1}]),
        ({"$ref": "#/components/schemas/Text", "nullable": True}, ["a", None], [1]),
        ({"type": ["string", "integer"], "nullable": True}, ["a", 1, None], [True]),
        ({"nullable": True, "description": "Anything."}, ["a", None], []),
        ({"type": "number", "minimum": 1, "exclusiveMinimum": True}, [1.1], [1]),
        ({"type": "number", "minimum": 1, "exclusiveMinimum": False}, [1], [0.9]),
        ({"type": "number", "maximum": 1, "exclusiveMaximum": True}, [0.9], [1]),
        ({"type": "number", "exclusiveMinimum": 1, "exclusiveMaximum": 2}, [1.5], [1, 2]),
        ({"type": "integer", "multipleOf": 5}, [10, 10.0], [7]),
        ({"type": "array", "uniqueItems": True, "items": {"type": "integer"}}, [[1, 2]], [[1, 1]]),
        ({"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False}, [["a", 1]], [[1], ["a", 1, 2]]),
        ({"type": "array", "items": [{"type": "string"}]}, [["a", 1]], [[1]]),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": True}, [{"a": "x", "b": 1}], [{"a": 1}]),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, [{"b": 1}], [{"b": "x"}]),
        ({"type": "object", "additionalProperties": False}, [{}], [{"b": "x"}]),
        ({"type": "object", "patternProperties": {"^a": {"type": "integer"}}, "minProperties": 1}, [{"ab": 1}], [{"ab": "x"}, {}]),
        ({"type": "object", "dependentRequired": {"a": ["b"]}}, [{"a": 1, "b": 2}], [{"a": 1}]),
        ({"not": {"type": "string"}}, [1], ["a"]),
        ({"if": {"type": "string"}, "then": {"minLength": 2}}, ["ab", 1], ["a"]),
        ({"type": "string", "pattern": "^[a-z]+$"}, ["ab"], ["A"]),
        ({"type": "string", "pattern": "["}, ["anything"], [1]),
        ({"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "array", "items": {"type": "integer"}}]}, [[], ["a"], [1]], [["a", 1]]),
        ({"oneOf": [{"type": "array", "items": {"type": "string"}}, {"type": "array", "items": {"type": "integer"}}]}, [[], ["a"], [1]], [["a", 1]]),
        ({"oneOf": [{"minimum": 2}], "anyOf": [{"maximum": 3}]}, [2, 3], [1, 4]),
        ({"type": "object", "required": True, "properties": {"a": {"type": "string", "required": True}}}, [{}, {"a": "x"}], [{"a": 1}]),
        ({"$ref": "#/components/schemas/Tree"}, [{"children": [{"value": 1}]}], [{"children": [{"value": "x"}]}]),
        (
            {"type": "object", "properties": {name: {"$ref": "#/components/schemas/Text"} for name in ("enum", "default", "type", "properties")}},
            [{"enum": "x"}],
            [{"type": 1}],
        ),
        (True, [1, "a", None], []),
    ],
    ids=str,
)
def test_what_a_schema_allows(schema: Any, fits: list[Any], faults: list[Any]) -> None:
    made = converted(schema, Text={"type": "string"}, Tree=TREE)
    validator = jsonschema_rs.validator_for(made)
    for value in fits:
        assert validator.is_valid({"x": value}), value
    for value in faults:
        assert not validator.is_valid({"x": value}), value
    if "not" not in str(schema) and "if" not in str(schema) and "items': False" not in str(schema):
        space = ToolCallSpace({"f": made}, seed=0)
        for _ in range(20):
            drawn = space.sample()["arguments"]
            assert validator.is_valid(drawn), drawn


def test_read_only_properties_are_not_asked_for() -> None:
    marked = {"type": "integer", "readOnly": True}
    base = {"type": "object", "required": ["id", "name"], "properties": {"id": {"$ref": "#/components/schemas/Id"}, "name": {"type": "string"}}}
    for schema in (
        base,
        {"$ref": "#/components/schemas/Base"},
        {"allOf": [{"$ref": "#/components/schemas/Base"}, {"required": ["id"]}]},
        {"allOf": [{"$ref": "#/components/schemas/Base"}, {"$ref": "#/components/schemas/Needs"}]},
        {
            "allOf": [{"properties": {"id": {"allOf": [{"$ref": "#/components/schemas/Id"}]}}}],
            "required": ["id", "name"],
            "properties": {"name": {"type": "string"}},
        },
    ):
        made = converted(schema, Id=marked, Base=base, Needs={"required": ["id"]})
        assert "'id'" not in str(made)
        validator = jsonschema_rs.validator_for(made)
        assert validator.is_valid({"x": {"name": "a"}})
        assert not validator.is_valid({"x": {}})


def test_a_definition_stands_once_or_in_its_place() -> None:
    wide = {"type": "object", "properties": {f"p{number}": {"type": "string", "description": "x" * 40} for number in range(9)}}
    once = converted({"$ref": "#/components/schemas/Wide"}, Wide=wide)
    assert once["properties"]["x"] == wide
    assert "$defs" not in once
    twice = converted({"type": "array", "items": {"anyOf": [{"$ref": "#/components/schemas/Wide"}] * 2}}, Wide=wide, Unused=wide)
    assert twice["$defs"] == {"Wide": wide}
    small = converted({"anyOf": [{"$ref": "#/components/schemas/Small"}] * 2}, Small={"type": "string"})
    assert small["properties"]["x"] == {"anyOf": [{"type": "string"}] * 2}
    tree = converted({"$ref": "#/components/schemas/Tree"}, Tree=TREE)
    assert tree["$defs"]["Tree"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}


def test_what_stands_beside_a_reference() -> None:
    beside = {"$ref": "#/components/schemas/Text", "description": "Which.", "minLength": 2}
    assert converted(beside, "3.0.3", Text={"type": "string"})["properties"]["x"] == {"type": "string", "description": "Which."}
    validator = jsonschema_rs.validator_for(converted(beside, "3.1.0", Text={"type": "string"}))
    assert [validator.is_valid({"x": value}) for value in ("ab", "a", 1)] == [True, False, False]


def test_a_schema_may_refer_to_itself_by_its_anchor() -> None:
    for version, anchor, reference in [
        ("3.1.0", {"$recursiveAnchor": True}, {"$recursiveRef": "#"}),
        ("3.1.0", {"$dynamicAnchor": "n"}, {"$dynamicRef": "#n"}),
    ]:
        node = {**anchor, "type": "object", "properties": {"next": reference, "n": {"type": "integer"}}}
        validator = jsonschema_rs.validator_for(converted({"$ref": "#/components/schemas/Node"}, version, Node=node))
        assert validator.is_valid({"x": {"next": {"n": 1}}})
        assert not validator.is_valid({"x": {"next": {"n": "1"}}})
        with pytest.raises(Unusable, match="does not lead to the schema itself"):
            converted(reference, version)


def test_a_broken_definition_breaks_all_that_need_it_and_nothing_else() -> None:
    broken = {
        "A": {"properties": {"b": {"$ref": "#/components/schemas/B"}, "gone": {"$ref": "#/components/schemas/Gone"}}},
        "B": {"properties": {"a": {"$ref": "#/components/schemas/A"}}},
    }
    schemas = Schemas(Document({"openapi": "3.0.0", "components": {"schemas": {**broken, "C": {"type": "string"}}}}))
    for name in ("A", "B", "A", "B"):
        with pytest.raises(Unusable):
            schemas.close(schemas.convert({"$ref": f"#/components/schemas/{name}"}, ""))
    assert schemas.close(schemas.convert({"$ref": "#/components/schemas/C"}, "")) == {"type": "string"}
