"""Tools on one line each: ``get_order(order_id: string, limit?: integer)``. A tenth of the tokens of their JSON schemas."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["OPENING", "compact", "signature"]

OPENING = "Solve the task by calling tools, one call per reply. These are the tools; a question mark means that the argument may be left out:"
"""How the instructions of every format begin; the tools follow, see ``compact``."""

_DEEP = 4


def signature(schema: Mapping[str, Any]) -> str:
    """Return the signature of a function schema; arguments that may be left out have a question mark.

    Example:
        >>> order = {"type": "string"}
        >>> parameters = {"type": "object", "properties": {"order_id": order, "limit": {"type": "integer"}}, "required": ["order_id"]}
        >>> signature({"type": "function", "function": {"name": "get_order", "parameters": parameters}})
        'get_order(order_id: string, limit?: integer)'
    """
    function = schema.get("function", schema)
    parameters = function.get("parameters", {})
    return f"{function['name']}({_properties(parameters, parameters, 0)})"


def compact(tools: Sequence[Mapping[str, Any]], descriptions: bool) -> str:
    """Return one signature per line; with ``descriptions``, each with the first sentence of what its tool does."""
    lines = []
    for schema in tools:
        about = " ".join(str(schema.get("function", schema).get("description") or "").split())
        sentence = re.split(r"(?<=[.!?]) ", about, maxsplit=1)[0]
        lines.append(f"{signature(schema)} - {sentence}" if descriptions and sentence else signature(schema))
    return "\n".join(lines)


def _properties(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> str:
    required = schema.get("required", ())
    parts = [f"{name}{'' if name in required else '?'}: {_type(inner, root, depth + 1)}" for name, inner in schema.get("properties", {}).items()]
    return ", ".join(parts)


def _type(schema: Any, root: Mapping[str, Any], depth: int) -> str:
    if not isinstance(schema, Mapping):
        return "any"
    if "$ref" in schema:
        name = str(schema["$ref"]).rsplit("/", 1)[-1]
        known = root.get("$defs", root.get("definitions", {}))
        return _type(known[name], root, depth + 1) if name in known and depth < _DEEP else name
    if "const" in schema or "enum" in schema:
        return _either(json.dumps(value, ensure_ascii=False) for value in schema.get("enum", [schema.get("const")]))
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return _either(_type(branch, root, depth) for branch in schema[union])
    kind = schema.get("type", "object" if "properties" in schema else "any")
    if isinstance(kind, list):
        return _either(map(str, kind))
    if kind == "array":
        inner = _type(schema.get("items", {}), root, depth + 1) if depth < _DEEP else "any"
        return f"({inner})[]" if "|" in inner else f"{inner}[]"
    if kind == "object" and schema.get("properties") and depth < _DEEP:
        return "{" + _properties(schema, root, depth) + "}"
    return str(kind)


def _either(parts: Iterable[str]) -> str:
    return "|".join(dict.fromkeys(parts))
