"""``hermes``: ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``, as Hermes and Qwen models are trained to write."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from steptool_env.formats.base import Scan, as_call, encode, raw_decode
from steptool_env.formats.signature import OPENING, compact
from steptool_env.types import Action, Malformed, ToolCall

__all__ = ["Hermes"]

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_CALL = re.compile(rf"{_OPEN}\s*(?=\{{)")
_EXPECTED = f'expected {_OPEN}{{"name": "...", "arguments": {{...}}}}{_CLOSE}'


class Hermes:
    """One JSON object between two tags.

    Reasoning before the call is ignored: a ``<think>`` block at the start, and any text, even if it mentions the tag.
    The closing tag may be missing, since generation can be stopped at it.
    """

    name = "hermes"
    stop: tuple[str, ...] = (_CLOSE,)

    def instructions(self, tools: Sequence[Mapping[str, Any]]) -> str:
        """Return the tools as signatures, one per line, and how to call one.

        Models that were trained on this format have a chat template, which gives them the full schemas instead.
        """
        return (
            f"{OPENING}\n"
            f"<tools>\n{compact(tools, descriptions=True)}\n</tools>\n"
            "Call one with a JSON object between tags:\n"
            f'{_OPEN}{{"name": <name of the tool>, "arguments": <JSON object>}}{_CLOSE}'
        )

    def render(self, call: ToolCall) -> str:
        r"""Return the call on one line; ``</tool_call>`` within a string is written ``<\/tool_call>``."""
        text = encode(call.as_dict())
        return _OPEN + text.replace(_CLOSE, r"<\/tool_call>") + _CLOSE

    def parse(self, text: str, *, prefix: str = "", tools: Sequence[Mapping[str, Any]] = ()) -> Action:
        """Read the first call; the first tag that a JSON object follows decides."""
        found = self.scan(text, 0)
        if found is not None:
            return found.action
        begin = _after_thinking(text)
        if begin < 0:
            return Malformed(text, f"the reasoning has no end, </think>; after it, {_EXPECTED}")
        what = f"no JSON object follows {_OPEN}" if text.find(_OPEN, begin) >= 0 else f"there is no {_OPEN}"
        return Malformed(text, f"{what}; {_EXPECTED}")

    def scan(self, text: str, begin: int) -> Scan | None:
        """Find the first call from ``begin`` on."""
        if begin == 0 and (begin := _after_thinking(text)) < 0:
            return None
        found = _CALL.search(text, begin)
        if found is None:
            return None
        try:
            call, end = raw_decode(text, found.end())
        except ValueError as fault:
            return Scan(Malformed(text, f"the JSON in {_OPEN} is broken: {fault}; {_EXPECTED}"), found.start(), len(text))
        return Scan(as_call(text, call, "arguments", _EXPECTED), found.start(), end)


def _after_thinking(text: str) -> int:
    """Return where the reply proper begins; -1 if the reasoning does not end."""
    return text.find("</think>") if text.lstrip().startswith("<think>") else 0
