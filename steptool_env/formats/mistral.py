"""``mistral``: ``[TOOL_CALLS] [{"name": …, "arguments": {…}}]``; newer models write ``[TOOL_CALLS]name[ARGS]{…}``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from steptool_env.formats.base import Scan, as_call, encode, raw_decode
from steptool_env.formats.signature import OPENING, compact
from steptool_env.types import Action, Malformed, ToolCall

__all__ = ["Mistral"]

_MARK = "[TOOL_CALLS]"
_CALL = re.compile(r"\[TOOL_CALLS\]\s*(?:\[\s*(?=\{)|(?P<name>[^\s\[\]{}]+)(?:\[CALL_ID\][^\s\[\]{}]*)?\[ARGS\]\s*)")
_NEXT = re.compile(r"\s*,\s*(?=\{)")
_EXPECTED = f'expected {_MARK} [{{"name": "...", "arguments": {{...}}}}]'


class Mistral:
    """A mark, then a JSON list of calls. Ids of calls, and the newer form with ``[ARGS]``, are read as well."""

    name = "mistral"
    stop: tuple[str, ...] = ("</s>",)

    def instructions(self, tools: Sequence[Mapping[str, Any]]) -> str:
        """Return the tools as signatures, one per line, and how to call one."""
        return (
            f"{OPENING}\n"
            f"[AVAILABLE_TOOLS]\n{compact(tools, descriptions=True)}\n[/AVAILABLE_TOOLS]\n"
            f"Call one with {_MARK} and a JSON list of one object: [an object with name, the name of the tool, and arguments, its arguments]"
        )

    def render(self, call: ToolCall) -> str:
        r"""Return the call on one line; ``</s>`` within a string is written ``<\/s>``."""
        text = encode(call.as_dict())
        return f"{_MARK} [{text}]".replace("</s>", r"<\/s>")

    def parse(self, text: str, *, prefix: str = "", tools: Sequence[Mapping[str, Any]] = ()) -> Action:
        """Read the first call; the first mark that a list of objects (or a name and arguments) follows decides."""
        found = self.scan(text, 0)
        if found is not None:
            return found.action
        what = f"no JSON list of calls follows {_MARK}" if _MARK in text else f"there is no {_MARK}"
        return Malformed(text, f"{what}; {_EXPECTED}")

    def scan(self, text: str, begin: int) -> Scan | None:
        """Find the first call from ``begin`` on: a further one of the same list, or one with its own mark."""
        found = _NEXT.match(text, begin) if begin else None
        name = None
        if found is None:
            found = _CALL.search(text, begin)
            if found is None:
                return None
            name = found["name"]
        try:
            value, end = raw_decode(text, found.end())
        except ValueError as fault:
            return Scan(Malformed(text, f"the JSON after {_MARK} is broken: {fault}; {_EXPECTED}"), found.start(), len(text))
        if name is not None:
            value = {"name": name, "arguments": value}
        return Scan(as_call(text, value, "arguments", _EXPECTED, frozenset({"id"})), found.start(), end)
