"""``ObjectForm``: calls as JSON objects with the name in them, between marks or bare: what hermes, llama3, mistral, openai and others share."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from steptool_env.formats.base import Form, Scan, Tools
from steptool_env.formats.calls import call_of, offers, read_json
from steptool_env.formats.jsonvalue import encode, raw_decode
from steptool_env.formats.values import Values
from steptool_env.types import Action, ToolCall, new_tuple

__all__ = ["BARE", "FOLLOWING", "ObjectForm", "around", "escaped", "object_of"]

_KEYS = "name|arguments|parameters|function|type|id|index|tool_calls|function_call|choices|role|tool_name"
# Not within other data: behind a key or a sibling. At most two braces, for models that double them. The match is one character long.
BARE = re.compile(rf"""[\[{{](?<!":.)(?<!": .)(?<!\}},.)(?<!\}}, .)(?=(?:\s*\{{)?\{{?\s*(?:["'](?:{_KEYS})["']|name|function|arguments|parameters)\s*:)""")
"""Where an object begins that may be a call."""
FOLLOWING = re.compile(r"""\s*[,;]?\s*(?=\{\s*["'](?:name|arguments|parameters|function|id|type)["']\s*:)""")
"""Where the next object begins, directly behind the last one."""

_EXTRA = re.compile(r"\s*\}")
_ODD = frozenset("} \n\t")
"""What may stand before a brace too many."""
_FENCE = re.compile(r"```[\w-]*\s*\Z")


def around(text: str, begin: int, end: int) -> tuple[bool, bool]:
    """Return whether a call is all there is around it but marks and fences; and whether it stands in a fence. Looks 40 characters far."""
    before, after = text[max(0, begin - 40) : begin], text[end : end + 40].strip()
    fence = _FENCE.search(before)
    if fence:
        before = before[: fence.start()]
    alone = (not before.strip() and begin <= 40) or before.rstrip().endswith((">", "]"))
    return (alone or bool(fence)) and (not after or after.startswith(("```", "<", "[/"))), bool(fence)


class ObjectForm(Form):
    """A JSON object, or a list of them, behind a mark. ``key`` is that of the arguments; ``allowed`` holds further keys that are no slip."""

    key: ClassVar[str] = "arguments"
    allowed: ClassVar[frozenset[str]] = frozenset()
    tail: ClassVar[re.Pattern[str] | None] = None
    """What ends the call: there, brackets that were forgotten are taken as closed."""
    bare: ClassVar[bool] = False
    """Whether a call without marks is the form's own."""
    following = FOLLOWING
    loose: re.Pattern[str] | None = BARE

    def take(self, text: str, found: re.Match[str], tools: Tools) -> Scan:
        """Read the object at the end of the match."""
        try:
            value, end = raw_decode(text, found.end())
            if type(value) is dict and len(value) == 2 and text[end : end + 1] not in _ODD:
                name, arguments = value["name"], value[self.key]
                if type(name) is str and type(arguments) is dict:
                    return new_tuple(Scan, (ToolCall(name, arguments), found.start(), end, False, 0))
        except (ValueError, KeyError):
            pass
        slips: set[str] = set()
        try:
            value, end = self._object(text, found.end(), slips)
        except ValueError as fault:
            return Scan(self.malformed(text, f"the JSON of the call is broken: {fault}"), found.start(), len(text))
        if _EXTRA.match(text, end):
            slips.add("extra brace")
        more = len(value) - 1 if type(value) is list and value else 0
        return Scan(call_of(text, value, self.key, self.expected, self.allowed, slips), found.start(), end, more=more)

    def take_loose(self, text: str, found: re.Match[str], tools: Tools) -> Scan:
        """Read an object without marks, if it is a call: it has arguments, or its name is on offer, or there is nothing else in the reply."""
        slips: set[str] = set()
        start = begin = found.end() if found.re is self.following else found.start()
        try:
            value, end = self._object(text, begin, slips)
        except ValueError as fault:
            if text[begin] != "[":
                return Scan(self.malformed(text, f"the JSON of the call is broken: {fault}"), begin, len(text))
            try:  # a list whose first call may be whole
                begin = text.index("{", begin)
                value, end = self._object(text, begin, slips)
            except ValueError:
                return Scan(self.malformed(text, f"the JSON of the call is broken: {fault}"), begin, len(text))
        if self.bare and not slips and type(value) is dict:
            name, arguments = value.get("name"), value.get(self.key)
            if type(name) is str and type(arguments) is dict and len(value) - len(value.keys() & self.allowed) == 2 and text[begin - 1 : begin] != "\n":
                return Scan(ToolCall(name, arguments), begin, end)
        alone, fenced = around(text, start, end)
        calls, shaped = self.unwrap(value, slips)
        first = calls[0] if calls else None
        action = self.call(text, first, shaped, slips)
        certain = isinstance(action, ToolCall) and (self.has_arguments(first) or alone) and not _describes(first)
        if isinstance(action, ToolCall) and (certain or offers(tools, action.name)):
            if not self.bare:
                slips.add("no tag")
            if fenced:
                slips.add("fence")
            scan = Scan(action, begin, end, more=len(calls) - 1)
            return scan.noted(*slips) if slips else scan
        if isinstance(action, ToolCall):
            action = self.malformed(text, f"an object without {self.key} among other words is no call")
        return Scan(action, begin, end, data=True)

    def call(self, text: str, value: Any, shaped: bool, slips: set[str]) -> Action:
        """Return the call that an object without marks describes; ``shaped``: it was found in a message of the OpenAI API."""
        return call_of(text, value, self.key, self.expected, self.allowed, slips | {"other shape"} if shaped else slips)

    def unwrap(self, value: Any, slips: set[str]) -> tuple[list[Any], bool]:
        """Return the calls in a decoded value, and whether they are wrapped as in an answer of the OpenAI API, which is not this form's own."""
        for _ in range(3):
            if isinstance(value, dict):
                if isinstance(choices := value.get("choices"), list) and choices and isinstance(choices[0], dict):
                    value = choices[0].get("message")
                    continue
                if "tool_calls" in value and isinstance(value["tool_calls"], list):
                    return value["tool_calls"], True
                if isinstance(value.get("function_call"), dict):
                    return [value["function_call"]], True
        return (value, False) if isinstance(value, list) else ([value], False)

    def _object(self, text: str, place: int, slips: set[str]) -> tuple[Any, int]:
        try:
            return raw_decode(text, place)
        except ValueError:
            return read_json(Values(text, close=self.tail), place, slips)

    def has_arguments(self, value: Any) -> bool:
        """Return whether an object has arguments, as data with a name rarely has."""
        if isinstance(value, dict) and isinstance(value.get("function"), dict):
            value = value["function"]
        return isinstance(value, dict) and ("arguments" in value or "parameters" in value)


def _describes(value: Any) -> bool:
    """Return whether this is the schema of a tool, not a call."""
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    schema = value.get("parameters", value.get("arguments")) if isinstance(value, dict) and "description" in value else None
    return isinstance(schema, dict) and schema.get("type") == "object" and isinstance(schema.get("properties"), dict)


def escaped(text: str) -> str:
    r"""Return JSON in which ``<|`` within a string is written ``\u003c|``, since it begins the marks that end a reply."""
    return text.replace("<|", r"\u003c|")


def object_of(call: ToolCall, key: str) -> str:
    """Return a call as a JSON object on one line."""
    return encode({"name": call.name, key: dict(call.arguments)})
