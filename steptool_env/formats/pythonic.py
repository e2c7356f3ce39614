"""``pythonic``: ``[get_order(order_id="o17")]``, the list of Python calls of BFCL, which Llama 3.2 and 4 write as well; ``olmo3``: the same in tags."""

from __future__ import annotations

import re
from typing import Any

from steptool_env.formats.base import Form, Scan, Tools
from steptool_env.formats.calls import made, offers
from steptool_env.formats.jsonvalue import encode
from steptool_env.formats.objects import around
from steptool_env.formats.signature import OPENING, compact
from steptool_env.formats.values import PYTHON, Values, python, skip
from steptool_env.types import ToolCall

__all__ = ["Olmo3", "Pythonic"]

_NAME = r"[^\W\d]\w*+(?:\.[^\W\d]\w*+)*+"
_CALL = rf"(?:globals\(\)\[(?=\")|(?P<name>{_NAME})\s*\()"
_PLAIN = re.compile(_NAME)
_ODD_NAME = r"[^\W\d][\w.\-/:]*+"
_TEXT = re.compile(r"""([^\W\d]\w*+)="([^"\\\x00-\x1f]*+)"(?:, |(?=\)))""")
"""An argument that is a plain text, as most are."""
_KEY = re.compile(r"([^\W\d]\w*+)\s*=(?!=)")


class Pythonic(Form):
    """One call in a list, with arguments by name.

    A name that is not a Python identifier is written as Python would have to: ``[globals()["get order"](x=1)]`` for a tool,
    ``**{"order id": 1}`` for arguments. The marks that LFM 2 puts around the list may be there.
    """

    name = "pythonic"
    stop: tuple[str, ...] = ("<|eot_id|>", "<|eot|>")
    expected = 'expected [name_of_the_tool(argument="value", ...)] with arguments by name, as Python literals that JSON can write'
    head = re.compile(rf"(?:<\|tool_call_start\|>\s*)?\[\s*{_CALL}")
    following = re.compile(rf"\s*,\s*{_CALL}")
    loose = re.compile(rf"(?P<list>\[\s*)(?P<odd>{_ODD_NAME})\(|<function_calls>\s*(?P<tagged>{_NAME})\(|^[ \t]*+(?P<bare>{_ODD_NAME})\(", re.MULTILINE)

    def instructions(self, tools: Tools) -> str:
        """Return the tools as signatures, one per line, and how to call one."""
        return (
            f"{OPENING}\n"
            f"{compact(tools, descriptions=True)}\n"
            "Call one as in Python, within square brackets, with all arguments by name and nothing else in the reply."
        )

    def render(self, call: ToolCall) -> str:
        r"""Return the call on one line; ``<|`` within a string is written ``\u003c|``, since it begins the marks that end a reply."""
        return f"[{_written(call)}]".replace("<|", r"\u003c|")

    def take(self, text: str, found: re.Match[str], tools: Tools) -> Scan:
        """Read the name, if it stands in quotes, and the arguments."""
        values = Values(text, PYTHON, bare=True)
        try:
            name, place = (found["name"], found.end()) if found["name"] is not None else _quoted_name(values, found.end())
            arguments, end = _arguments(values, place)
        except ValueError as fault:
            return Scan(self.malformed(text, f"the call is broken, {fault}: it takes values of JSON"), found.start(), len(text))
        return Scan(made(name, arguments, values.slips), found.start(), end)

    def take_loose(self, text: str, found: re.Match[str], tools: Tools) -> Scan:
        """Read a call in a neighboring tag or without a list, on a line of its own; one without arguments must be all there is, or on offer."""
        values = Values(text, PYTHON, bare=True)
        name = found["odd"] or found["tagged"] or found["bare"]
        try:
            arguments, end = _arguments(values, found.end())
        except ValueError as fault:
            return Scan(self.malformed(text, f"the call is broken, {fault}: it takes values of JSON"), found.start(), found.end(), data=True)
        alone, fenced = around(text, found.start(), end)
        if found["bare"]:
            rest = text[end : end + 40].split("\n", 1)[0].strip()
            if (rest and not rest.startswith(("<", "#", ";"))) or not (arguments or alone or offers(tools, name)):
                return Scan(self.malformed(text, "what looks like a call stands in a sentence"), found.start(), end, data=True)
            values.slips.add("no brackets")
        if fenced:
            values.slips.add("fence")
        if found["tagged"]:
            values.slips.add("other form")
        if not _PLAIN.fullmatch(name):
            values.slips.add("name that is no identifier")
        return Scan(made(name, arguments, values.slips), found.start(), end)


class Olmo3(Pythonic):
    """Olmo 3: the calls stand in tags, one on each line, without brackets."""

    name = "olmo3"
    stop: tuple[str, ...] = ("</function_calls>",)
    expected = (
        'expected <function_calls>name_of_the_tool(argument="value", ...)</function_calls> with arguments by name, as Python literals that JSON can write'
    )
    mark = "<function_calls>"
    head = re.compile(rf"<function_calls>\s*\[?\s*{_CALL}")
    following = re.compile(rf"\s*,?\s*{_CALL}")
    loose = re.compile(rf"(?P<list>\[\s*)(?P<odd>{_ODD_NAME})\(|^[ \t]*+(?P<bare>{_ODD_NAME})\((?P<tagged>)", re.MULTILINE)

    def instructions(self, tools: Tools) -> str:
        """Return the tools as signatures, one per line, and how to call one."""
        how = "Call one as in Python, with all arguments by name, between <function_calls> and </function_calls>."
        return f"{OPENING}\n{compact(tools, descriptions=True)}\n{how}"

    def render(self, call: ToolCall) -> str:
        r"""Return the call on one line; ``</function_calls>`` within a string is written ``\u003c/function_calls>``."""
        text = _written(call).replace("</function_calls>", r"\u003c/function_calls>")
        return f"<function_calls>{text}</function_calls>"


def _written(call: ToolCall) -> str:
    parts = [f"{key}={python(value)}" if _is_plain(key) else f"**{python({key: value})}" for key, value in call.arguments.items()]
    name = call.name if all(map(_is_plain, call.name.split("."))) else f"globals()[{encode(call.name)}]"
    return f"{name}({', '.join(parts)})"


def _is_plain(name: str) -> bool:
    return _PLAIN.fullmatch(name) is not None and "." not in name


def _quoted_name(values: Values, begin: int) -> tuple[str, int]:
    name, place = values.read(begin)
    if values.text[place : place + 2] != "](":
        raise ValueError('expecting a call after globals()["…"]')
    return str(name), place + 2


def _arguments(values: Values, place: int) -> tuple[dict[str, Any], int]:
    text = values.text
    arguments: dict[str, Any] = {}
    while (plain := _TEXT.match(text, place)) is not None and plain[1] not in arguments:
        arguments[plain[1]] = plain[2]
        place = plain.end()
    place = values.space(place)
    while text[place : place + 1] != ")":
        if text.startswith("**", place):
            further, place = values.read(skip(text, place + 2))
            if not isinstance(further, dict):
                raise ValueError("expecting a dict after **")
        elif key := _KEY.match(text, place):
            value, place = values.read(skip(text, key.end()))
            further = {key[1]: value}
        else:
            raise ValueError(f"expecting an argument by name {values.where(place)}")
        if twice := further.keys() & arguments.keys():
            raise ValueError(f"argument {min(twice)[:100]!r} stands twice")
        arguments |= further
        place = values.space(place)
        if text[place : place + 1] == ",":
            place = values.space(place + 1)
        elif text[place : place + 1] != ")":
            raise ValueError(f"expecting ',' or ')' {values.where(place)}")
    return arguments, place + 1
