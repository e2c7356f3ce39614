"""``react``: ``Thought: … Action: name Action Input: {…}`` on lines of their own, after Yao et al. (arXiv 2210.03629)."""

from __future__ import annotations

import re

from steptool_env.formats.base import Form, Scan, Tools
from steptool_env.formats.calls import arguments_of, made, read_json
from steptool_env.formats.jsonvalue import decode, encode, raw_decode
from steptool_env.formats.signature import OPENING, compact
from steptool_env.formats.values import Values
from steptool_env.types import ToolCall

__all__ = ["ReAct"]

_DECORATION = "`'\"*_[]() \t."
_FENCE = re.compile(r"```\w*\s*")
_WORDS = re.compile(r"[^{}\n]{1,100}(?=\{)")


class ReAct(Form):
    """Two lines, the second one in JSON, after any thought.

    Names that would not survive on a line of their own (with line breaks or quotes around them, say) are written as JSON strings.
    """

    name = "react"
    stop: tuple[str, ...] = ("\nObservation",)
    expected = "expected the lines 'Action: <name of a tool>' and 'Action Input: <JSON object>'"
    head = re.compile(r"^[ \t]*Action:([^\n]*)\n\s*Action Input:\s*", re.MULTILINE)
    # A name of at most 80 characters, so that the search for what follows it stays linear.
    loose = re.compile(
        r"\baction[*_` ]{0,4}[:：][*_ \t]{0,8}(?P<label>[^\n]{0,80}?)\s{1,8}[>#*_\-\d.`]{0,4} ?action[ _]input[*_` ]{0,4}[:：][*_]{0,4}\s*", re.IGNORECASE
    )

    def instructions(self, tools: Tools) -> str:
        """Return the tools as signatures, one per line, and how to call one."""
        return (
            f"{OPENING}\n"
            f"{compact(tools, descriptions=True)}\n"
            "Reply in this form:\n"
            "Thought: <what to do next, and why>\n"
            "Action: <name of the tool>\n"
            "Action Input: <its arguments, a JSON object>\n"
            "The result then comes as Observation."
        )

    def render(self, call: ToolCall) -> str:
        """Return the two lines of the call."""
        name = call.name if _is_plain(call.name) else encode(call.name)
        return f"Action: {name}\nAction Input: {encode(dict(call.arguments))}"

    def take(self, text: str, found: re.Match[str], tools: Tools) -> Scan:
        """Read the name and the arguments."""
        label = found[1].strip()
        try:
            arguments, end = raw_decode(text, found.end())
            if type(arguments) is dict and _is_plain(label):
                return Scan(ToolCall(label, arguments), found.start(), end)
        except ValueError:
            pass
        slips: set[str] = set()
        try:
            name = _name(label, slips)
            value, end = read_json(Values(text), _begin(text, found.end(), slips), slips)
            if isinstance(value, list) and value:
                raise ValueError("Action Input is no JSON object")
            arguments = arguments_of(value, slips, "arguments")
            if isinstance(arguments, str):
                raise ValueError(arguments)
        except ValueError as fault:
            begun = str(fault).startswith(("Action", "the arguments", "something"))
            return Scan(self.malformed(text, str(fault) if begun else f"the JSON of the call is broken: {fault}"), found.start(), len(text))
        return Scan(made(name, arguments, slips), found.start(), end)

    def take_loose(self, text: str, found: re.Match[str], tools: Tools) -> Scan:
        """Read a call whose labels are written in another way."""
        return self.take(text, found, tools).noted("label")


def _name(label: str, slips: set[str]) -> str:
    if label.startswith('"') and not label.endswith('",'):
        name = decode(label, 0)
        if isinstance(name, str):
            if _is_plain(name):
                slips.add("decorated name")
            return name
    name = label.strip(_DECORATION)
    if not name:
        raise ValueError("Action names no tool")
    if name != label:
        slips.add("decorated name")
    return name


def _begin(text: str, place: int, slips: set[str]) -> int:
    if fence := _FENCE.match(text, place):
        slips.add("fence")
        place = fence.end()
    elif text[place : place + 1] not in ("{", "[", '"') and (words := _WORDS.match(text, place)):
        slips.add("words before the arguments")
        place = words.end()
    return place


def _is_plain(name: str) -> bool:
    return name.isprintable() and name == name.strip(_DECORATION) != ""
