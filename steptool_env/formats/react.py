"""``react``: ``Thought: … Action: name Action Input: {…}`` on lines of their own, after Yao et al. (arXiv 2210.03629)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from steptool_env.formats.base import Scan, action_of, decode, encode, raw_decode
from steptool_env.formats.signature import OPENING, compact
from steptool_env.types import Action, Malformed, ToolCall

__all__ = ["ReAct"]

_CALL = re.compile(r"^[ \t]*Action:([^\n]*)\n\s*Action Input:\s*", re.MULTILINE)
_EXPECTED = "expected the lines 'Action: <name of a tool>' and 'Action Input: <JSON object>'"


class ReAct:
    """Two lines, the second one in JSON, after any thought.

    Names that would not survive on a line of their own (with line breaks, say) are written as JSON strings.
    """

    name = "react"
    stop: tuple[str, ...] = ("\nObservation",)

    def instructions(self, tools: Sequence[Mapping[str, Any]]) -> str:
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

    def parse(self, text: str, *, prefix: str = "", tools: Sequence[Mapping[str, Any]] = ()) -> Action:
        """Read the first call; the first ``Action:`` line that an ``Action Input:`` follows decides."""
        return action_of(self.scan(text, 0), text, _EXPECTED)

    def scan(self, text: str, begin: int) -> Scan | None:
        """Find the first call from ``begin`` on."""
        found = _CALL.search(text, begin)
        if found is None:
            return None
        name = found[1].strip()
        fault = "Action names no tool" if not name else ""
        end = len(text)
        arguments: Any = {}
        if not fault:
            try:
                if name.startswith('"'):
                    name = decode(name, 0)
                arguments, end = raw_decode(text, found.end())
                if not isinstance(arguments, dict):
                    fault = "Action Input is no JSON object"
            except ValueError as problem:
                fault = f"the JSON of the call is broken: {problem}"
        return Scan(Malformed(text, f"{fault}; {_EXPECTED}") if fault else ToolCall(name, arguments), found.start(), end)


def _is_plain(name: str) -> bool:
    return name.isprintable() and name == name.strip() != "" and not name.startswith('"')
