"""Decoded JSON as a call, and the slips in it that every reader forgives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from steptool_env.formats.jsonvalue import raw_decode
from steptool_env.formats.values import Values
from steptool_env.types import Action, Malformed, ToolCall

__all__ = ["REPAIRS", "arguments_of", "call_of", "made", "offers", "read_json"]

REPAIRS: dict[str, str] = {
    "aliased key": "`parameters` for `arguments`, or the reverse; `function` for `name`",
    "arguments as a string": "JSON within a string, or an empty string, for the object of arguments",
    "comment": "a comment among the arguments",
    "decorated name": "a name with quotes, brackets or stars around it, or with `()` after it",
    "doubled brace": "`{{` and `}}`",
    "extra brace": "one closing brace too many",
    "extra key": "a key besides name and arguments, such as an id",
    "fence": "a code fence around a call without marks, or around its arguments",
    "JSON literal": "`true`, `false` or `null` in Python",
    "key without quotes": "a key that is no string",
    "label": "`Action` and `Action Input` on one line, in other letters, in bold, or with another colon",
    "list": "a list where one call belongs, or one call where a list belongs",
    "missing arguments": "no key for the arguments",
    "missing brace": "brackets that were not closed before the mark that ends the call",
    "missing mark": "one of several marks of the form is not there",
    "name that is no identifier": "a name in Python that Python would not take",
    "no brackets": "a Python call without the list around it",
    "no tag": "a call without the mark before it",
    "null arguments": "`null` or an empty list for the object of arguments",
    "other form": "a call in the marks of a neighboring form",
    "other shape": "an object of the OpenAI API where name and arguments belong, or the reverse",
    "Python literal": "`True`, `None`, single quotes, tuples, `0x10`, `1_000` in JSON",
    "raw escape": "an escape that JSON does not have",
    "raw line break": "a line break or another control character in a string",
    "text without quotes": "one word, not in quotes, for a text",
    "trailing comma": "a comma before a closing bracket",
    "words before the arguments": "words between the mark and the call, or its arguments",
}
"""Name of a slip that is forgiven -> what it is. ``Reading.repaired`` and ``ToolCall.repaired`` hold such names."""

_KEYS = {"arguments": "parameters", "parameters": "arguments"}
_NAMES = ("function", "tool_name")
_API = frozenset({"id", "type", "index", "function"})


def made(name: str, arguments: Mapping[str, Any], slips: Iterable[str] = ()) -> ToolCall:
    """Return a call; the slips become its ``repaired``."""
    return ToolCall(name, arguments, tuple(sorted(set(slips) - {""}))) if slips else ToolCall(name, arguments)


def offers(tools: Sequence[Mapping[str, Any]], name: object) -> bool:
    """Return whether a tool of this name is among the function schemas."""
    return any(isinstance(schema, Mapping) and (schema.get("function") or schema).get("name") == name for schema in tools)


def read_json(values: Values, place: int, slips: set[str]) -> tuple[Any, int]:
    """Return the value at a place and the position after it; what was forgiven joins ``slips``. Raises ValueError."""
    try:
        return raw_decode(values.text, place)
    except ValueError:
        values.slips = slips
        if values.text.startswith("{{", place):
            value, end = values.read(place + 1)
            slips.add("doubled brace")
            return value, end + values.text.startswith("}", end)
        return values.read(place)


def call_of(text: str, value: Any, key: str, expected: str, allowed: frozenset[str] = frozenset(), slips: Iterable[str] = ()) -> Action:
    """Return the call that a JSON object ``{"name": …, key: {…}}`` describes, or what is wrong with it.

    Args:
        text: The whole reply.
        value: The decoded JSON.
        key: Key of the arguments, ``"arguments"`` or ``"parameters"``.
        expected: What the format expects, for the message.
        allowed: Further keys that are no slip, such as an id.
        slips: What was forgiven so far.
    """
    if not slips and type(value) is dict and len(value) == 2:
        name, arguments = value.get("name"), value.get(key)
        if type(name) is str and type(arguments) is dict:
            return ToolCall(name, arguments)
    slips = set(slips)
    if isinstance(value, list) and value:
        value = value[0]
        slips.add("list")
    if isinstance(value, dict) and "name" not in value and isinstance(function := value.get("function"), dict):
        if value.get("type", "function") != "function":
            return Malformed(text, f"the type is {str(value['type'])[:100]!r}; {expected}")
        if value.keys() - _API:
            slips.add("extra key")
        value = function
        slips.add("other shape")
    if not isinstance(value, dict):
        return Malformed(text, f"the call is no JSON object; {expected}")
    named = next((alias for alias in _NAMES if isinstance(value.get(alias), str)), "name")
    if named != "name" and "name" not in value:
        value = {"name": value[named], **{other: item for other, item in value.items() if other != named}}
        slips.add("aliased key")
    if not isinstance(value.get("name"), str):
        return Malformed(text, f"the call has no name; {expected}")
    used, alias = key, _KEYS[key]
    if alias in value:
        if key in value:
            return Malformed(text, f"the call has both {key} and {alias}; {expected}")
        used = alias
        slips.add("aliased key")
    if used not in value:
        slips.add("missing arguments")
    arguments = arguments_of(value.get(used, {}), slips, used)
    if isinstance(arguments, str):
        return Malformed(text, f"{arguments}; {expected}")
    if value.keys() - {"name", used} - allowed:
        slips.add("extra key")
    return made(value["name"], arguments, slips)


def arguments_of(value: Any, slips: set[str], what: str = "arguments", *, as_text: bool = False) -> dict[str, Any] | str:
    """Return the arguments of a call, or what is wrong with them.

    Args:
        value: The decoded arguments.
        slips: Takes what was forgiven.
        what: Their name, for the message.
        as_text: Whether JSON within a string is what the form asks for.
    """
    depth = 0
    while isinstance(value, str) and depth < 2:
        if depth or not as_text or not value.strip():
            slips.add("arguments as a string")
        depth += 1
        if not value.strip():
            value = {}
            break
        values = Values(value)
        try:
            value, end = read_json(values, len(value) - len(value.lstrip()), slips)
        except ValueError as fault:
            return f"the JSON of the {what} is broken: {fault}"
        if values.text[end:].strip():
            return f"something follows the JSON of the {what}"
    if value is None or value == []:
        slips.add("null arguments")
        value = {}
    return value if isinstance(value, dict) else f"the {what} are no JSON object"
