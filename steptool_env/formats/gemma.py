"""``gemma``: ``<|tool_call>call:name{key:<|"|>text<|"|>,n:1}<tool_call|>``, Gemma 4's own notation; FunctionGemma's marks are read as well."""

from __future__ import annotations

import re
from typing import Any

from steptool_env.formats.base import Form, Scan, Tools
from steptool_env.formats.calls import made
from steptool_env.formats.jsonvalue import encode
from steptool_env.formats.named import NAME, check_name
from steptool_env.formats.signature import OPENING, compact
from steptool_env.formats.values import Values
from steptool_env.types import ToolCall

__all__ = ["Gemma"]

_QUOTE = '<|"|>'
_NATIVE = frozenset({"key without quotes", "trailing comma"})
_PLAIN_KEY = re.compile(r"[^\W\d]\w*")
_MARKS = re.compile(r"<\|\"\|>|<\|?tool_call\|?>")


class Gemma(Form):
    """Keys without quotes, texts between marks in which nothing is escaped. A text that holds a mark is written as a JSON string."""

    name = "gemma"
    stop: tuple[str, ...] = ("<tool_call|>",)
    expected = f"expected <|tool_call>call:name of the tool{{key:{_QUOTE}text{_QUOTE}}}<tool_call|>"
    mark = "<|tool_call>"
    head = re.compile(rf"(?:<\|tool_call>|<start_function_call>)\s*call:\s*(?P<name>{NAME})\s*\{{")
    loose = re.compile(rf"(?:^|(?<=[>\n]))call:(?P<name>{NAME})\{{")
    tail = re.compile(r"<tool_call\|>|<end_function_call>")

    def instructions(self, tools: Tools) -> str:
        """Return the tools as signatures, one per line, and how to call one."""
        how = f"Call one with <|tool_call>call: and the name of the tool, its arguments in braces, as key:value, texts between {_QUOTE}, and <tool_call|>."
        return f"{OPENING}\n{compact(tools, descriptions=True)}\n{how}"

    def render(self, call: ToolCall) -> str:
        """Return the call on one line. Raises ``InvalidArgument`` for a name with white space, brackets or quotes."""
        return f"<|tool_call>call:{check_name(self.name, call.name)}{_write(dict(call.arguments))}<tool_call|>"

    def take(self, text: str, found: re.Match[str], tools: Tools) -> Scan:
        """Read the object behind the name."""
        values = Values(text, _NATIVE, close=self.tail, quotes=(_QUOTE, "<escape>"), bare=True)
        try:
            arguments, end = values.mapping(found.end())
        except ValueError as fault:
            return Scan(self.malformed(text, f"the arguments are broken, {fault}: they take values of JSON"), found.start(), len(text))
        return Scan(made(found["name"], arguments, values.slips), found.start(), end)

    def take_loose(self, text: str, found: re.Match[str], tools: Tools) -> Scan:
        """Read a call without the mark before it, which some servers leave out."""
        return self.take(text, found, tools).noted("no tag")


def _write(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{key if _PLAIN_KEY.fullmatch(key) and key.isascii() else _json(key)}:{_write(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_write, value)) + "]"
    if isinstance(value, str):
        return _json(value) if _MARKS.search(value) or (encode(value)[1:-1] != value and "\\ud" in encode(value)) else f"{_QUOTE}{value}{_QUOTE}"
    return encode(value)


def _json(text: str) -> str:
    return encode(text).replace("<", r"\u003c")
