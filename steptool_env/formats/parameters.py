"""``ParameterForm``: calls whose arguments stand one by one between tags, texts without quotes. Each form is a description of a few lines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from steptool_env.formats.base import Form, Scan, Tools
from steptool_env.formats.calls import made
from steptool_env.formats.jsonvalue import encode, raw_decode
from steptool_env.formats.named import NAME, check_name
from steptool_env.formats.signature import OPENING, compact
from steptool_env.formats.values import Values
from steptool_env.types import ToolCall

__all__ = ["GLM", "MiniMax", "ParameterForm", "Qwen3Coder", "types_of"]

_KEY = re.compile(r"""[^\s<>"｜][^<>"\n｜]*""")
_WORDS = {"True": True, "False": False, "None": None}
_BEGINS_JSON = re.compile(r'[{\["0-9tfn\-]')


class ParameterForm(Form):
    """A call whose name stands in the match of ``head`` (group ``name``), and whose arguments follow, each between tags.

    A text is written as it is. One that would be read as something else (``5``, ``true``), or that holds a tag of the form, is written as a
    JSON string. What stands between the tags is read by the type of the argument where ``tools`` tell it; else as JSON if it is JSON.
    """

    argument: ClassVar[re.Pattern[str]]
    """Where an argument begins, up to its value; group ``key``."""
    value_end: ClassVar[re.Pattern[str]]
    """What ends a value."""
    end: ClassVar[re.Pattern[str]]
    """What ends the call."""
    lines: ClassVar[bool] = False
    """Whether a value stands on lines of its own."""
    tags: ClassVar[re.Pattern[str]]
    """What no value that is written as it is may hold."""
    written: ClassVar[tuple[str, str, str, str, str]]
    """What stands before the name, behind it, before a key, between key and value, behind a value; and ``closed`` at the end."""
    closed: ClassVar[str]
    how: ClassVar[str]
    """How to call a tool, in words."""

    def instructions(self, tools: Tools) -> str:
        """Return the tools as signatures, one per line, and how to call one."""
        return f"{OPENING}\n{compact(tools, descriptions=True)}\n{self.how}"

    def render(self, call: ToolCall) -> str:
        """Return the call. Raises ``InvalidArgument`` for names of tools and arguments that do not fit into a tag."""
        before, after, opening, between, closing = self.written
        parts = [before, check_name(self.name, call.name), after]
        for key, value in call.arguments.items():
            if key != key.strip():
                check_name(self.name, key, _KEY, "argument")
            parts += [opening, check_name(self.name, key, _KEY, "argument"), between, self._text(value), closing]
        return "".join(parts) + self.closed

    def take(self, text: str, found: re.Match[str], tools: Tools) -> Scan:
        """Read the arguments behind the name, up to the end of the call."""
        name, place = found["name"], found.end()
        types = types_of(tools, name) if tools else {}
        slips: set[str] = set()
        arguments: dict[str, Any] = {}
        while opening := self.argument.match(text, place):
            closing = self.value_end.search(text, opening.end())
            key = opening["key"].strip()
            if closing is None:
                return Scan(self.malformed(text, f"the value of {key[:100]!r} has no end"), found.start(), len(text))
            if key in arguments:
                return Scan(self.malformed(text, f"argument {key[:100]!r} stands twice"), found.start(), closing.end())
            value = text[opening.end() : closing.start()]
            if self.lines:
                value = value.removeprefix("\n").removesuffix("\n")
            arguments[key] = self._value(value, types.get(key), slips)
            place = closing.end()
        end = self.end.match(text, place)
        if end is None:
            return Scan(self.malformed(text, "the call has no end"), found.start(), len(text))
        return Scan(made(name, arguments, slips), found.start(), end.end())

    def _text(self, value: Any) -> str:
        if not isinstance(value, str):
            return encode(value).replace("<", r"\u003c")
        if self.tags.search(value) or _plain(value)[0] or (not value.isprintable() and encode(value).isascii() and "\\ud" in encode(value)):
            return encode(value).replace("<", r"\u003c")
        return value

    def _value(self, text: str, types: frozenset[str] | None, slips: set[str]) -> Any:
        known, value = _plain(text)
        if types is None:
            return value if known else text
        if "string" in types:
            if known and isinstance(value, str):
                return value if self._text(value) == text else text  # written in quotes only because it had to be
            return value if known and len(types) > 1 and _type(value) & types else text
        if known:
            return value
        try:
            values = Values(text)
            value, end = values.read(0)
            if text[end:].strip():
                return text
        except ValueError:
            return text  # of the wrong type, as its tool will say
        slips |= values.slips
        return value


def types_of(tools: Tools, name: str) -> dict[str, frozenset[str]]:
    """Return the JSON types that each argument of a tool takes, as far as its schema says so."""
    for schema in tools:
        function = schema.get("function", schema)
        if isinstance(function, Mapping) and function.get("name") == name:
            parameters = function.get("parameters")
            properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
            found = {key: _types(value) for key, value in properties.items()} if isinstance(properties, Mapping) else {}
            return {key: types for key, types in found.items() if types}
    return {}


def _types(schema: Any) -> frozenset[str]:
    if not isinstance(schema, Mapping):
        return frozenset()
    kind = schema.get("type")
    if isinstance(kind, str):
        return frozenset({kind})
    if isinstance(kind, list):
        return frozenset(part for part in kind if isinstance(part, str))
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(values, list):
        return frozenset().union(*map(_type, values))
    for union in ("anyOf", "oneOf"):
        if isinstance(branches := schema.get(union), list):
            kinds = [_types(branch) for branch in branches]
            return frozenset().union(*kinds) if all(kinds) else frozenset()
    return frozenset()


def _type(value: Any) -> frozenset[str]:
    if value is None:
        return frozenset({"null"})
    if isinstance(value, bool):
        return frozenset({"boolean"})
    if isinstance(value, int | float):
        return frozenset({"number", "integer"} if float(value).is_integer() else {"number"})
    return frozenset({"string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"})


def _plain(text: str) -> tuple[bool, Any]:
    """Return whether a text is a whole JSON value, or one of Python's three words as some templates write them; and the value."""
    text = text.strip()
    if text in _WORDS:
        return True, _WORDS[text]
    if not _BEGINS_JSON.match(text):
        return False, None
    try:
        value, end = raw_decode(text, 0)
    except ValueError:
        return False, None
    return end == len(text), value


class Qwen3Coder(ParameterForm):
    """Qwen3-Coder, Qwen3.5 and later, Nemotron 3: tags with the names in them, values on lines of their own."""

    name = "qwen3-coder"
    stop: tuple[str, ...] = ("</tool_call>",)
    expected = "expected <tool_call>\n<function=name of the tool>\n<parameter=name of the argument>\nvalue\n</parameter>\n</function>\n</tool_call>"
    mark = "<function="
    head = re.compile(rf"(?:<tool_call>\s*)?<function=(?P<name>{NAME})>")
    argument = re.compile(r"\s*<parameter=(?P<key>[^<>\x22\n｜]+)>")
    value_end = re.compile(r"</parameter>")
    end = re.compile(r"\s*</function>(?:\s*</tool_call>)?")
    lines = True
    tags = re.compile(r"</?(?:parameter|function|tool_call)\b")
    written = ("<tool_call>\n<function=", ">\n", "<parameter=", ">\n", "\n</parameter>\n")
    closed = "</function>\n</tool_call>"
    how = (
        "Call one in this form, with a parameter tag for each argument:\n"
        "<tool_call>\n<function=name of the tool>\n<parameter=name of the argument>\nvalue\n</parameter>\n</function>\n</tool_call>"
    )


class GLM(ParameterForm):
    """GLM 4.5 and 4.6, and 4.7, which leaves out the line breaks."""

    name = "glm"
    stop: tuple[str, ...] = ("<|observation|>",)
    expected = "expected <tool_call>name of the tool\n<arg_key>name of the argument</arg_key>\n<arg_value>value</arg_value>\n</tool_call>"
    mark = "<tool_call>"
    head = re.compile(rf"<tool_call>\s*(?P<name>{NAME})\s*(?=<arg_key>|</tool_call>)")
    argument = re.compile(r"\s*<arg_key>(?P<key>[^<>\x22\n｜]+)</arg_key>\s*<arg_value>")
    value_end = re.compile(r"</arg_value>")
    end = re.compile(r"\s*</tool_call>")
    tags = re.compile(r"</?(?:arg_key|arg_value|tool_call)>|<\|observation\|>")
    written = ("<tool_call>", "\n", "<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>\n")
    closed = "</tool_call>"
    how = (
        "Call one in this form, with a key and a value for each argument:\n"
        "<tool_call>name of the tool\n<arg_key>name of the argument</arg_key>\n<arg_value>value</arg_value>\n</tool_call>"
    )


class MiniMax(ParameterForm):
    """MiniMax M2; and the same tags with another prefix, as DeepSeek V3.2 and others write them."""

    name = "minimax"
    stop: tuple[str, ...] = ("</minimax:tool_call>",)
    expected = 'expected <minimax:tool_call>\n<invoke name="...">\n<parameter name="...">value</parameter>\n</invoke>\n</minimax:tool_call>'
    mark = "<invoke"
    head = re.compile(rf'(?:<(?:[\w:｜]{{0,20}}(?:tool_call|function_calls))>\s*)?<(?:[\w:｜]{{0,20}})invoke\s+name="(?P<name>{NAME})"\s*>')
    argument = re.compile(r'\s*<(?:[\w:｜]{0,20})parameter\s+name="(?P<key>[^<>\x22\n｜]+)"(?:\s+string="(?:true|false)")?\s*>')
    value_end = re.compile(r"</(?:[\w:｜]{0,20})parameter>")
    end = re.compile(r"\s*</(?:[\w:｜]{0,20})invoke>")
    tags = re.compile(r"</?(?:[\w:｜]{0,20})(?:parameter|invoke|tool_call)\b")
    written = ('<minimax:tool_call>\n<invoke name="', '">\n', '<parameter name="', '">', "</parameter>\n")
    closed = "</invoke>\n</minimax:tool_call>"
    how = (
        "Call one in this form, with a parameter tag for each argument:\n"
        '<minimax:tool_call>\n<invoke name="name of the tool">\n<parameter name="name of the argument">value</parameter>\n</invoke>\n</minimax:tool_call>'
    )
