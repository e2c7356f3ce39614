"""OpenAPI's schemas as JSON Schema (2020-12): what a request may hold, with references only to what stands in the same schema.

What changes: ``readOnly`` properties go, since a request must not hold them; ``nullable`` and the boolean ``exclusiveMinimum`` of
OpenAPI 3.0 become what JSON Schema says; ``oneOf`` becomes ``anyOf``, because documents use it for alternatives that overlap
(an empty list fits a list of texts and a list of objects), and the server, not the schema, has the last word; a ``pattern`` that
is no regular expression goes. Titles, examples and extensions are left away: models read them as noise.
"""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema_rs

from steptool_env.tools.openapi.document import Document, Unusable
from steptool_env.tools.openapi.names import distinct

__all__ = ["Schemas"]

_SAME = frozenset(
    "type enum const minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength pattern minItems maxItems uniqueItems "
    "minProperties maxProperties dependentRequired minContains maxContains default contentEncoding contentMediaType required".split()
)
_ONE = frozenset("items additionalProperties not if then else contains propertyNames unevaluatedItems unevaluatedProperties".split())
_LIST = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_NAMED = frozenset(("properties", "patternProperties", "dependentSchemas"))
_NOTES = frozenset(("description", "default", "format"))
"""What does not restrict the value, so that it may stand beside a schema that is put in place of its reference."""
_SMALL = 300
"""A definition without references that takes no more characters stands wherever it is used."""


class Schemas:
    """The schemas of one document; a definition is read once, whoever refers to it.

    Args:
        document: The document.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self._names: dict[tuple[str, str], str] = {}
        self._definitions: dict[str, Any] = {}
        self._uses: dict[str, Counter[str]] = {}
        self._small: set[str] = set()
        self._within: list[tuple[str, Any]] = []
        """The definitions that are being read, the innermost one last: name and node."""

    def convert(self, node: Any, file: str) -> dict[str, Any]:
        """Return a schema; what it refers to stands under ``#/$defs`` of what ``close`` makes of it.

        Raises:
            Unusable: It is no schema, or refers to what is not there.
        """
        return self._convert(node, file, frozenset())

    def look(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what a converted schema refers to, or the schema itself."""
        while isinstance(reference := schema.get("$ref"), str):
            target = self._definitions.get(reference.rpartition("/")[2], {})
            schema = target if len(schema) == 1 else {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
        return schema

    def close(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return a converted schema with the definitions that it needs: those used once, and small ones, in their place."""
        uses = Counter(_references(schema))
        if not uses:
            return schema
        waiting, needed = list(uses), set(uses)
        while waiting:
            name = waiting.pop()
            if name not in self._uses:
                raise Unusable(f"it needs the schema {name!r}, which is broken")
            uses.update(self._uses[name])
            further = set(self._uses[name]) - needed
            needed |= further
            waiting += further
        kept = {name for name in needed if uses[name] > 1 and name not in self._small}
        closed = self._filled(schema, kept)
        if kept:
            closed["$defs"] = {name: self._filled(self._definitions[name], kept) for name in self._definitions if name in kept}
        return dict(closed)

    # ---------------------------------------------------------------- one node
    def _convert(self, node: Any, file: str, hidden: frozenset[str]) -> dict[str, Any]:
        if isinstance(node, bool):
            return {} if node else {"not": {}}
        if not isinstance(node, Mapping):
            raise Unusable(f"a schema must be an object, got {type(node).__name__}")
        schema: dict[str, Any] = {}
        if isinstance(reference := node.get("$ref"), str):
            schema["$ref"] = self._reference(reference, file)
            if not self.document.modern:  # what stands beside it does not count, but people mean these two
                node = {key: node[key] for key in ("description", "nullable") if key in node}
        if "allOf" in node or "properties" in node:
            hidden |= self._read_only(node, file)
        for key, value in node.items():
            if key in _SAME:
                schema[key] = value
            elif key in _ONE:
                if key == "items" and isinstance(value, list):  # as in old drafts
                    schema["prefixItems"] = [self._convert(inner, file, frozenset()) for inner in value]
                else:
                    schema[key] = value if isinstance(value, bool) else self._convert(value, file, frozenset())
            elif key in _LIST and isinstance(value, list):
                schema[key] = [self._branch(inner, file, hidden if key == "allOf" else frozenset()) for inner in value]
            elif key in _NAMED and isinstance(value, Mapping):
                value, file_of = self.document.resolved(value, file)
                gone = hidden if key == "properties" else ()
                schema[key] = {name: self._convert(inner, file_of, frozenset()) for name, inner in value.items() if name not in gone}
            elif key in ("description", "format"):
                schema[key] = str(value)
            elif key in ("$dynamicRef", "$recursiveRef"):
                schema["$ref"] = self._itself(key, str(value))
        return _modern(schema, bool(node.get("nullable")), hidden)

    def _branch(self, node: Any, file: str, hidden: frozenset[str]) -> dict[str, Any]:
        """A part of an ``allOf``: what another part says is read-only, this one must not ask for."""
        if hidden and isinstance(node, Mapping) and "$ref" in node:
            target, where = self.document.resolved(node, file)
            if isinstance(target, Mapping) and hidden & set(_texts(target.get("required"))):
                return self._convert(target, where, hidden)
        return self._convert(node, file, hidden)

    def _read_only(self, node: Mapping[str, Any], file: str) -> frozenset[str]:
        """The names of the properties that a request must not hold, those of all parts included."""
        parts = node.get("allOf")
        properties, file_of = self.document.resolved(node.get("properties"), file)
        found = {name for name, inner in properties.items() if self._marked(inner, file_of)} if isinstance(properties, Mapping) else set()
        for part in parts if isinstance(parts, list) else ():
            part, where = self.document.resolved(part, file)
            if isinstance(part, Mapping):
                found |= self._read_only(part, where)
        return frozenset(found)

    def _marked(self, node: Any, file: str) -> bool:
        if not isinstance(node, Mapping):
            return False
        if node.get("readOnly") is True:
            return True
        if "$ref" in node:
            return self._marked(*self.document.resolved(node, file))
        parts = node.get("allOf")
        return isinstance(parts, list) and any(self._marked(part, file) for part in parts)

    def _reference(self, reference: str, file: str) -> str:
        place = self.document.locate(reference, file)
        name = self._names.get(place)
        if name is None:
            node = self.document.at(*place)
            self.document.resolved(node, place[0])  # a circle of references alone says nothing
            last = re.sub(r"[^a-zA-Z0-9_.-]+", "_", place[1].rpartition("/")[2]) or "schema"
            (name,) = distinct([last], self._definitions)
            self._names[place] = name
            self._definitions[name] = {}  # a schema may refer to itself
            self._within.append((name, node))
            try:
                definition = self._convert(node, place[0], frozenset())
            except Exception:
                del self._names[place]  # the next one to refer to it is told as well; its name stays taken
                raise
            finally:
                self._within.pop()
            self._definitions[name] = definition
            self._uses[name] = Counter(_references(definition))
            if not self._uses[name] and len(json.dumps(definition, default=str)) <= _SMALL:
                self._small.add(name)
        return f"#/$defs/{name}"

    def _itself(self, key: str, value: str) -> str:
        """The reference of a schema to itself, by its anchor; those to another schema's depend on who uses them."""
        name, node = self._within[-1] if self._within else ("", None)
        about = node if isinstance(node, Mapping) else {}
        if value != ("#" if about.get("$recursiveAnchor") is True else f"#{about.get('$dynamicAnchor')}"):
            raise Unusable(f"its schema has the {key} {value!r}, which does not lead to the schema itself")
        return f"#/$defs/{name}"

    # ---------------------------------------------------------------- definitions in their place
    def _filled(self, node: Any, kept: set[str]) -> Any:
        if isinstance(node, list):
            return [self._filled(item, kept) for item in node]
        if not isinstance(node, dict):
            return node
        if (reference := node.get("$ref")) is None:
            return {key: self._part(key, value, kept) for key, value in node.items()}
        beside = {key: self._part(key, value, kept) for key, value in node.items() if key != "$ref"}
        name = reference.rpartition("/")[2]
        if name in kept:
            return {**beside, "$ref": reference}
        filled = self._filled(self._definitions[name], kept)
        return {**filled, **beside} if _NOTES.issuperset(beside) else {**beside, "allOf": [filled, *beside.get("allOf", ())]}

    def _part(self, key: str, value: Any, kept: set[str]) -> Any:
        if key in _NAMED:  # a property may have the name of a keyword
            return {name: self._filled(inner, kept) for name, inner in value.items()}
        return self._filled(value, kept) if key in _ONE or key in _LIST else value


def _references(node: Any) -> Iterator[str]:
    """Yield the names of the definitions that a converted schema refers to, one for every time."""
    if not isinstance(node, dict):
        return
    if "$ref" in node:
        yield node["$ref"].rpartition("/")[2]
    for key, value in node.items():
        if key in _NAMED:
            for inner in value.values():
                yield from _references(inner)
        elif key in _ONE:
            yield from _references(value)
        elif key in _LIST:
            for inner in value:
                yield from _references(inner)


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _modern(schema: dict[str, Any], nullable: bool, hidden: frozenset[str]) -> dict[str, Any]:
    """Turn what OpenAPI 3.0 has of its own, and what older drafts had, into JSON Schema 2020-12."""
    if "required" in schema:
        schema["required"] = [name for name in _texts(schema["required"]) if name not in hidden]  # also a "required: true" of old drafts
        if not schema["required"]:
            del schema["required"]
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(schema.get(exclusive), bool) and schema.pop(exclusive) and bound in schema:
            schema[exclusive] = schema.pop(bound)
    if isinstance(schema.get("pattern"), str) and not _is_pattern(schema["pattern"]):
        del schema["pattern"]
    if "oneOf" in schema:
        alternatives = schema.pop("oneOf")
        if "anyOf" in schema:
            schema["allOf"] = [*schema.get("allOf", ()), {"anyOf": alternatives}]
        else:
            schema["anyOf"] = alternatives
    return _or_null(schema) if nullable else schema


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    if {"$ref", "allOf", "anyOf", "not", "const", "if"} & set(schema):
        about: dict[str, Any] = {key: schema.pop(key) for key in ("description", "default") if key in schema}
        return {**about, "anyOf": [schema, {"type": "null"}]}
    if isinstance(kinds := schema.get("type"), str):
        schema["type"] = [kinds, "null"]
    elif isinstance(kinds, list) and "null" not in kinds:
        schema["type"] = [*kinds, "null"]
    if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
        schema["enum"] = [*schema["enum"], None]
    return schema


@functools.lru_cache(maxsize=4096)
def _is_pattern(pattern: str) -> bool:
    try:
        jsonschema_rs.validator_for({"pattern": pattern})
    except ValueError:
        return False
    return True
