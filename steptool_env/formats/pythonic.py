"""``pythonic``: ``[get_order(order_id="o17")]``, the list of Python calls of BFCL, which Llama 3.2 and 4 write as well."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from steptool_env.formats.base import Scan, encode
from steptool_env.formats.literals import literal, skip, write
from steptool_env.formats.signature import OPENING, compact
from steptool_env.types import Action, Malformed, ToolCall

__all__ = ["Pythonic"]

_NAME = r"[^\W\d]\w*+(?:\.[^\W\d]\w*+)*+"
_CALL = re.compile(rf"\[\s*(?:globals\(\)\[(?=\")|(?P<name>{_NAME})\s*\()")
_NEXT = re.compile(rf"\s*,\s*(?:globals\(\)\[(?=\")|(?P<name>{_NAME})\s*\()")
_PLAIN = re.compile(_NAME)
_KEY = re.compile(r"([^\W\d]\w*)\s*=")
_EXPECTED = 'expected [name_of_the_tool(argument="value", ...)] with arguments by name, as Python literals that JSON can write'


class Pythonic:
    """One call in a list, with arguments by name.

    A name that is not a Python identifier is written as Python would have to: ``[globals()["get order"](x=1)]`` for a tool,
    ``**{"order id": 1}`` for arguments.
    """

    name = "pythonic"
    stop: tuple[str, ...] = ("<|eot_id|>", "<|eot|>")

    def instructions(self, tools: Sequence[Mapping[str, Any]]) -> str:
        """Return the tools as signatures, one per line, and how to call one."""
        return (
            f"{OPENING}\n"
            f"{compact(tools, descriptions=True)}\n"
            "Call one as in Python, within square brackets, with all arguments by name and nothing else in the reply."
        )

    def render(self, call: ToolCall) -> str:
        r"""Return the call on one line; ``<|`` within a string is written ``\u003c|``, since it begins the marks that end a reply."""
        parts = [f"{key}={write(value)}" if _is_plain(key) else f"**{write({key: value})}" for key, value in call.arguments.items()]
        name = call.name if all(map(_is_plain, call.name.split("."))) else f"globals()[{encode(call.name)}]"
        return f"[{name}({', '.join(parts)})]".replace("<|", r"\u003c|")

    def parse(self, text: str, *, prefix: str = "", tools: Sequence[Mapping[str, Any]] = ()) -> Action:
        """Read the first call; the first bracket that a name and a parenthesis follow decides."""
        found = self.scan(text, 0)
        return found.action if found is not None else Malformed(text, f"there is no call; {_EXPECTED}")

    def scan(self, text: str, begin: int) -> Scan | None:
        """Find the first call from ``begin`` on: a further one of the same list, or one in a list of its own."""
        found = (_NEXT.match(text, begin) if begin else None) or _CALL.search(text, begin)
        if found is None:
            return None
        try:
            name, place = (found["name"], found.end()) if found["name"] is not None else _quoted_name(text, found.end())
            arguments, end = _arguments(text, place)
        except ValueError as fault:
            return Scan(Malformed(text, f"the call is broken, {fault}: it takes values of JSON; {_EXPECTED}"), found.start(), len(text))
        return Scan(ToolCall(name, arguments), found.start(), end)


def _is_plain(name: str) -> bool:
    return _PLAIN.fullmatch(name) is not None and "." not in name


def _quoted_name(text: str, begin: int) -> tuple[str, int]:
    name, place = literal(text, begin)
    if text[place : place + 2] != "](":
        raise ValueError('expecting a call after globals()["…"]')
    return str(name), place + 2


def _arguments(text: str, place: int) -> tuple[dict[str, Any], int]:
    arguments: dict[str, Any] = {}
    place = skip(text, place)
    while text[place : place + 1] != ")":
        if text.startswith("**", place):
            further, place = literal(text, place + 2)
            if not isinstance(further, dict):
                raise ValueError("expecting a dict after **")
        elif key := _KEY.match(text, place):
            value, place = literal(text, key.end())
            further = {key[1]: value}
        else:
            raise ValueError(f"expecting an argument by name after {text[max(0, place - 20) : place]!r}")
        if twice := further.keys() & arguments.keys():
            raise ValueError(f"argument {min(twice)[:100]!r} stands twice")
        arguments |= further
        place = skip(text, place)
        if text[place : place + 1] == ",":
            place = skip(text, place + 1)
        elif text[place : place + 1] != ")":
            raise ValueError(f"expecting ',' or ')' after {text[max(0, place - 20) : place]!r}")
    return arguments, place + 1
