"""``NamedForm``: calls with the name between marks and the arguments as a JSON object behind it. Each form is a description of a few lines."""

from __future__ import annotations

import re
from typing import ClassVar

from steptool_env.errors import InvalidArgument
from steptool_env.formats.base import Form, Scan, Tools
from steptool_env.formats.calls import arguments_of, made, read_json
from steptool_env.formats.jsonvalue import encode, raw_decode
from steptool_env.formats.signature import OPENING, compact
from steptool_env.formats.values import Values
from steptool_env.types import ToolCall

__all__ = ["NAME", "DeepSeek", "Harmony", "Kimi", "NamedForm", "check_name"]

NAME = r"""[^\s<>{}\[\]()"'`|｜]++"""
"""A name that stands between marks without quotes: no white space, brackets or quotes."""
_NAME = re.compile(NAME)


def check_name(form: str, name: str, pattern: re.Pattern[str] = _NAME, what: str = "tool") -> str:
    """Return a name that a form can write; raises ``InvalidArgument`` for others."""
    if pattern.fullmatch(name) is None:
        raise InvalidArgument(
            f"the call format {form!r} cannot write the name of the {what} {name!r}: rename it, or choose a format that quotes names, such as hermes"
        )
    return name


class NamedForm(Form):
    """A call whose name stands in the match of ``head``, in group ``name`` or ``other``, and whose arguments follow it."""

    written: ClassVar[tuple[str, str, str]]
    """What stands before the name, between name and arguments, and after them."""
    escape: ClassVar[tuple[str, str]] = ("<|", r"\u003c|")
    """What is written otherwise within the arguments, since a mark begins with it, and how."""
    least = 18  # [TOOL_CALLS]f[ARGS]
    how: ClassVar[str]
    """How to call a tool, in words."""
    tail: ClassVar[re.Pattern[str] | None] = None
    """What ends the call: there, brackets that were forgotten are taken as closed."""

    def instructions(self, tools: Tools) -> str:
        """Return the tools as signatures, one per line, and how to call one."""
        return f"{OPENING}\n{compact(tools, descriptions=True)}\nCall one with {self.how}."

    def render(self, call: ToolCall) -> str:
        """Return the call on one line; marks within its strings are escaped. Raises ``InvalidArgument`` for a name with white space, brackets or quotes."""
        before, between, after = self.written
        return f"{before}{check_name(self.name, call.name)}{between}{encode(dict(call.arguments)).replace(*self.escape)}{after}"

    def take(self, text: str, found: re.Match[str], tools: Tools) -> Scan:
        """Read the arguments behind the name."""
        place = found.end()
        name = found["name"] or found["other"]
        try:
            arguments, end = raw_decode(text, place)
            if type(arguments) is dict:
                return Scan(ToolCall(name, arguments), found.start(), end)
        except ValueError:
            pass
        slips: set[str] = set()
        try:
            value, end = read_json(Values(text, close=self.tail), place, slips)
        except ValueError as fault:
            return Scan(self.malformed(text, f"the JSON of the arguments is broken: {fault}"), found.start(), len(text))
        read = arguments_of(value, slips)
        return Scan(self.malformed(text, read) if isinstance(read, str) else made(name, read, slips), found.start(), end)


_START = r'\s*(?=[{"]|null\b)'
_TO = r"to=(?:functions\.)?"


class Harmony(NamedForm):
    """gpt-oss: the recipient in the header of a message, before or behind its channel; channel ``analysis`` without one is reasoning."""

    name = "harmony"
    stop: tuple[str, ...] = ("<|call|>",)
    expected = "expected <|channel|>commentary to=functions.name of the tool <|constrain|>json<|message|>{...}<|call|>"
    mark = "<|channel|>"
    head = re.compile(
        rf"(?:<\|start\|>assistant)?<\|channel\|>\w*\s+{_TO}(?P<name>{NAME})\s*(?:<\|constrain\|>)?\w*\s*<\|message\|>{_START}"
        rf"|(?:<\|start\|>assistant|\A)\s*{_TO}(?P<other>{NAME})\s*<\|channel\|>\w*\s*(?:<\|constrain\|>)?\w*\s*<\|message\|>{_START}"
    )
    written = ("<|channel|>commentary to=functions.", " <|constrain|>json<|message|>", "<|call|>")
    tail = re.compile(r"<\|call\|>|<\|end\|>")
    how = (
        "a message on the commentary channel to the tool: <|channel|>commentary to=functions. and the name of the tool, "
        "then <|constrain|>json<|message|>, its arguments as a JSON object, and <|call|>"
    )


class DeepSeek(NamedForm):
    """DeepSeek V3.1 and, read as well, V3 and R1, which write the word function first and put the arguments into a code fence."""

    name = "deepseek"
    stop: tuple[str, ...] = ("<｜tool▁calls▁end｜>",)
    expected = "expected <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>name of the tool<｜tool▁sep｜>{...}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    mark = "<｜tool▁call▁begin｜>"
    head = re.compile(
        rf"(?:<｜tool▁calls▁begin｜>\s*)?<｜tool▁call▁begin｜>\s*"
        rf"(?:function<｜tool▁sep｜>(?P<name>{NAME})\s*```(?:json)?{_START}|(?P<other>{NAME})<｜tool▁sep｜>{_START})"
    )
    written = ("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜><｜tool▁calls▁end｜>")
    escape = ("<｜", r"\u003c｜")
    tail = re.compile(r"(?:```\s*)?<｜tool▁call▁end｜>")
    how = (
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>, the name of the tool, <｜tool▁sep｜>, its arguments as a JSON object, "
        "and <｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    )


class Kimi(NamedForm):
    """Kimi K2: the name with a namespace before it and the number of the call behind it."""

    name = "kimi"
    stop: tuple[str, ...] = ("<|tool_calls_section_end|>",)
    expected = (
        "expected <|tool_calls_section_begin|><|tool_call_begin|>functions.name of the tool:0<|tool_call_argument_begin|>{...}"
        "<|tool_call_end|><|tool_calls_section_end|>"
    )
    mark = "<|tool_call_begin|>"
    head = re.compile(
        r"(?:<\|tool_calls_section_begin\|>\s*)?<\|tool_call_begin\|>\s*(?:functions\.)?"
        rf"""(?P<name>[^\s<>{{}}\[\]()"'`|｜]+?)(?P<other>)(?::[0-9]+)?\s*<\|tool_call_argument_begin\|>{_START}"""
    )
    written = ("<|tool_calls_section_begin|><|tool_call_begin|>functions.", ":0<|tool_call_argument_begin|>", "<|tool_call_end|><|tool_calls_section_end|>")
    tail = re.compile(r"<\|tool_call_end\|>")
    how = (
        "<|tool_calls_section_begin|><|tool_call_begin|>functions. and the name of the tool, :0<|tool_call_argument_begin|>, its arguments "
        "as a JSON object, and <|tool_call_end|><|tool_calls_section_end|>"
    )
