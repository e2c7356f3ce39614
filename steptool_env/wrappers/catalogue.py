"""``bind``: from a tool and a value in focus to a whole call. The other arguments are filled by role, else by recency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steptool_env.tools.tool import Tool
from steptool_env.wrappers.memory import Value, words_of

__all__ = ["bind", "focus_of", "takes_one_text"]

_PLAIN = {"type", "description", "title"}
_NONE: Any = object()


def focus_of(tool: Tool) -> str:
    """Return the argument that the catalogue varies: the first required one; ``""`` for a tool that requires none."""
    required = tool.parameters.get("required", ())
    return str(required[0]) if required else ""


def takes_one_text(tool: Tool) -> bool:
    """Return whether the tool requires one argument, any text: then every value but True and False binds, and nothing is left to check."""
    required = tool.parameters.get("required", ())
    schema = tool.parameters.get("properties", {}).get(required[0], {}) if len(required) == 1 else {}
    return isinstance(schema, Mapping) and schema.get("type") == "string" and schema.keys() <= _PLAIN


def bind(tool: Tool, slot: int, slots: Sequence[Value | None]) -> dict[str, Any] | None:
    """Return the arguments of the call of ``tool`` with the value of ``slots[slot]`` in focus, or None if there is no such call.

    - The focus takes the value of the slot; an argument with a fixed choice takes the choice of that number instead.
    - Every other required argument takes the latest value whose role shares a word with its name, else the latest value
      that fits and is not in use, else the first of its fixed choices.
    - Arguments that may be left out are left out. A tool that requires none has one binding, in slot 0.
    """
    properties: Mapping[str, Any] = tool.parameters.get("properties", {})
    required = [str(name) for name in tool.parameters.get("required", ())]
    if not required:
        return {} if slot == 0 else None
    schema = properties.get(required[0], {})
    choices = _choices(schema)
    if choices is not None:
        if slot >= len(choices):
            return None
        first = choices[slot]
    else:
        value = slots[slot]
        first = _fit(value.content, schema) if value is not None else _NONE
        if first is _NONE:
            return None
    arguments = {required[0]: first}
    for name in required[1:]:
        filled = _fill(name, properties.get(name, {}), slots, list(arguments.values()))
        if filled is _NONE:
            return None
        arguments[name] = filled
    if len(required) == 1 and isinstance(schema, Mapping) and schema.keys() <= _PLAIN:
        return arguments  # the type was all there is to check
    return arguments if not tool.check(arguments) else None


def _fill(name: str, schema: Any, slots: Sequence[Value | None], taken: list[Any]) -> Any:
    choices = _choices(schema)
    fitting = [(value, fitted) for value in slots if value is not None and (fitted := _fit(value.content, schema)) is not _NONE]
    if choices is not None:
        return next((fitted for _, fitted in fitting if fitted in choices), choices[0] if choices else _NONE)
    asked = set(words_of(name))
    by_role = [fitted for value, fitted in fitting if asked & set(words_of(value.role))]
    fresh = [fitted for _, fitted in fitting if fitted not in taken]
    return next(iter([*by_role, *fresh]), _NONE)


def _choices(schema: Any) -> list[Any] | None:
    if not isinstance(schema, Mapping):
        return None
    if "enum" in schema:
        return list(schema["enum"])
    if "const" in schema:
        return [schema["const"]]
    return [False, True] if schema.get("type") == "boolean" else None


def _fit(content: Any, schema: Any) -> Any:
    """Return the value as the schema's type, or ``_NONE``; the schema's other keywords are checked on the whole call."""
    kind = schema.get("type", "string") if isinstance(schema, Mapping) else "string"
    if isinstance(kind, list):
        kind = kind[0] if kind else "string"
    match kind:
        case "string":
            return content if isinstance(content, str) else _NONE if isinstance(content, bool) else str(content)
        case "integer" | "number":
            return _number(content, kind)
        case "array":
            inner = _fit(content, schema.get("items", {}))
            return [inner] if inner is not _NONE else _NONE
    return _NONE


def _number(content: Any, kind: str) -> Any:
    if isinstance(content, bool):
        return _NONE
    if isinstance(content, str):
        try:
            content = float(content) if kind == "number" and len(content) < 40 else int(content) if len(content) < 40 else _NONE
        except ValueError:
            return _NONE
    if kind == "integer" and isinstance(content, float):
        return int(content) if content.is_integer() else _NONE
    return _NONE if content != content or content in (float("inf"), float("-inf")) else content
