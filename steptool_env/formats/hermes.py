"""``hermes``: ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``, as Hermes and Qwen models are trained to write."""

from __future__ import annotations

import re

from steptool_env.formats.base import Scan, Tools
from steptool_env.formats.objects import BARE, ObjectForm, object_of
from steptool_env.formats.parameters import Qwen3Coder
from steptool_env.formats.signature import OPENING, compact
from steptool_env.types import ToolCall

__all__ = ["Hermes"]

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"


class Hermes(ObjectForm):
    """One JSON object between two tags.

    Any text before the call is reasoning, even if it mentions the tag. The closing tag may be missing, since generation can be stopped at it.
    """

    name = "hermes"
    stop: tuple[str, ...] = (_CLOSE,)
    expected = f'expected {_OPEN}{{"name": "...", "arguments": {{...}}}}{_CLOSE}'
    mark = _OPEN
    least = len(_CLOSE)
    head = re.compile(rf"{_OPEN}\s*(?=\{{|\[\s*\{{)")
    tail = re.compile(rf"{_CLOSE}")
    # Qwen2.5-Coder takes the tag of the tools, and Qwen3-Coder's form uses the same tag around another one.
    loose = re.compile(rf"<tools>\s*(?=\{{)|{Qwen3Coder.head.pattern}|{BARE.pattern}")

    def instructions(self, tools: Tools) -> str:
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
        return _OPEN + object_of(call, "arguments").replace(_CLOSE, r"<\/tool_call>") + _CLOSE

    def take_loose(self, text: str, found: re.Match[str], tools: Tools) -> Scan:
        """Read a call in the neighboring tags, or one without any."""
        if found["name"] is not None:
            return _CODER.take(text, found, tools).noted("other form")
        scan = self.take(text, found, tools) if found[0].startswith("<") else super().take_loose(text, found, tools)
        return scan.noted("other form") if found[0].startswith("<") else scan


_CODER = Qwen3Coder()
