"""``openai``: ``{"type": "function", "function": {"name": …, "arguments": "{…}"}}``, as the API writes calls: the arguments are JSON within a JSON string."""

from __future__ import annotations

import re
from typing import Any

from steptool_env.formats.base import Scan, Tools
from steptool_env.formats.calls import arguments_of, call_of, made
from steptool_env.formats.jsonvalue import encode, raw_decode
from steptool_env.formats.objects import BARE, ObjectForm, escaped
from steptool_env.formats.signature import OPENING, compact
from steptool_env.types import Action, ToolCall

__all__ = ["OpenAI"]

_SURROUNDING = frozenset({"id", "type", "index", "function"})


class OpenAI(ObjectForm):
    """One object of ``tool_calls``. A whole message, ``{"tool_calls": […]}``, is read as well."""

    name = "openai"
    stop: tuple[str, ...] = ("<|im_end|>",)
    expected = 'expected {"type": "function", "function": {"name": "...", "arguments": "{...}"}}, the arguments a JSON object in a string'
    bare = True
    head = BARE
    loose = None

    def instructions(self, tools: Tools) -> str:
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
        return escaped(encode({"type": "function", "function": {"name": call.name, "arguments": arguments}}))

    def take(self, text: str, found: re.Match[str], tools: Tools) -> Scan:
        """Read the object, if it is a call."""
        begin = found.end() if found.re is self.following else found.start()
        try:
            value, end = raw_decode(text, begin)
            if type(value) is dict and value.get("type") == "function" and value.keys() <= _SURROUNDING and text[begin - 1 : begin] != "\n":
                function = value["function"]
                name, arguments = function["name"], function["arguments"]
                if type(name) is str and type(arguments) is str and len(function) == 2:
                    read, length = raw_decode(arguments, 0)
                    if type(read) is dict and length == len(arguments):
                        return Scan(ToolCall(name, read), begin, end)
        except (KeyError, TypeError, ValueError):
            pass
        return self.take_loose(text, found, tools)

    def call(self, text: str, value: Any, shaped: bool, slips: set[str]) -> Action:
        """Return the call in one object of ``tool_calls``, or in one without the object around name and arguments."""
        if not isinstance(value, dict):
            return self.malformed(text, "tool_calls is no list with a call in it" if shaped else "the call is no JSON object")
        function = value.get("function")
        if not isinstance(function, dict):
            if isinstance(value.get("name"), str) and self.has_arguments(value):
                return call_of(text, value, "arguments", self.expected, frozenset({"type", "id"}), slips | {"other shape"})
            return self.malformed(text, "the call has no function")
        if value.get("type", "function") != "function":
            return self.malformed(text, f"the type is {str(value['type'])[:100]!r}")
        if value.keys() - _SURROUNDING:
            slips.add("extra key")
        if not isinstance(function.get("arguments"), str) or len(function) != 2 or not isinstance(function.get("name"), str):
            if isinstance(function.get("arguments"), dict):
                slips.add("other shape")
            return call_of(text, function, "arguments", self.expected, frozenset(), slips)
        arguments = arguments_of(function["arguments"], slips, as_text=True)
        return self.malformed(text, arguments) if isinstance(arguments, str) else made(function["name"], arguments, slips)
