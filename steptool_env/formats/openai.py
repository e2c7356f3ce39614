"""``openai``: a function call as the chat API writes it, with the arguments as JSON within a JSON string."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from steptool_env.formats.base import Scan, action_of, as_call, encode, raw_decode
from steptool_env.formats.signature import OPENING, compact
from steptool_env.types import Action, Malformed, ToolCall

__all__ = ["OpenAI"]

_CALL = re.compile(r'\{\s*"(?:id|type|index|function|role|tool_calls)"\s*:')
_EXPECTED = 'expected {"type": "function", "function": {"name": "...", "arguments": "{...}"}}, the arguments a JSON object in a string'
_SURROUNDING = frozenset({"id", "type", "index", "function"})


class OpenAI:
    """One object of ``tool_calls``. A whole message, ``{"tool_calls": […]}``, is read as well, and so are arguments that are not a string."""

    name = "openai"
    stop: tuple[str, ...] = ("<|im_end|>",)

    def instructions(self, tools: Sequence[Mapping[str, Any]]) -> str:
        """Return the tools as signatures, one per line, and how to call one."""
        return (
            f"{OPENING}\n"
            f"{compact(tools, descriptions=True)}\n"
            'Call one with a JSON object of two keys: type, which is "function", and function, an object with name, the name of the tool, and '
            "arguments, a string that holds its arguments as a JSON object."
        )

    def render(self, call: ToolCall) -> str:
        r"""Return the call on one line; ``<|`` within a string is written ``\u003c|``, since it begins the mark that ends a reply."""
        arguments = encode(dict(call.arguments))
        return encode({"type": "function", "function": {"name": call.name, "arguments": arguments}}).replace("<|", r"\u003c|")

    def parse(self, text: str, *, prefix: str = "", tools: Sequence[Mapping[str, Any]] = ()) -> Action:
        """Read the first call; the first object that begins with a key of a call or of a message decides."""
        return action_of(self.scan(text, 0), text, _EXPECTED)

    def scan(self, text: str, begin: int) -> Scan | None:
        """Find the first call from ``begin`` on. Further calls of one message are found at once: they stand within it."""
        found = _CALL.search(text, begin)
        if found is None:
            return None
        try:
            value, end = raw_decode(text, found.start())
        except ValueError as fault:
            return Scan(Malformed(text, f"the JSON of the call is broken: {fault}; {_EXPECTED}"), found.start(), len(text))
        if "tool_calls" in value:
            calls = value["tool_calls"]
            if not isinstance(calls, list) or not calls:
                return Scan(Malformed(text, f"tool_calls is no list with a call in it; {_EXPECTED}"), found.start(), end)
            value = calls[0]
            if len(calls) > 1 and (second := text.find("{", found.start() + 1)) >= 0:
                # The next scan begins behind the first call, so that the others are counted one by one.
                end = _end_of_first(text, second, end)
        return Scan(_call(text, value), found.start(), end)


def _end_of_first(text: str, start: int, otherwise: int) -> int:
    try:
        return raw_decode(text, start)[1]
    except ValueError:
        return otherwise


def _call(text: str, value: Any) -> Action:
    if not isinstance(value, dict) or not isinstance(function := value.get("function"), dict):
        return Malformed(text, f"the call has no function; {_EXPECTED}")
    if value.get("type", "function") != "function":
        return Malformed(text, f"the type is {str(value['type'])[:100]!r}; {_EXPECTED}")
    if further := sorted(value.keys() - _SURROUNDING):
        return Malformed(text, f"the call has further keys, {', '.join(further)[:100]}; {_EXPECTED}")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments, end = raw_decode(arguments, len(arguments) - len(arguments.lstrip()))
            if function["arguments"][end:].strip():
                return Malformed(text, f"something follows the JSON of the arguments; {_EXPECTED}")
        except ValueError as fault:
            return Malformed(text, f"the JSON of the arguments is broken: {fault}; {_EXPECTED}")
    return as_call(text, {**function, "arguments": arguments}, "arguments", _EXPECTED)
