"""``xlam`` and ``granite``: a JSON list of calls, bare or behind a mark."""

from __future__ import annotations

import re

from steptool_env.formats.base import Scan, Tools
from steptool_env.formats.objects import BARE, ObjectForm, escaped, object_of
from steptool_env.formats.signature import OPENING, compact
from steptool_env.types import ToolCall

__all__ = ["Granite", "Xlam"]


class Xlam(ObjectForm):
    """xLAM: the list is the reply. One object without the list is read as well."""

    name = "xlam"
    stop: tuple[str, ...] = ("<|im_end|>",)
    expected = 'expected [{"name": "...", "arguments": {...}}]'
    allowed = frozenset({"id"})
    bare = True
    head = BARE
    loose = None

    def instructions(self, tools: Tools) -> str:
        """Return the tools as signatures, one per line, and how to call one."""
        how = "Call one with a JSON list of one object with two keys: name, the name of the tool, and arguments, its arguments."
        return f"{OPENING}\n{compact(tools, descriptions=True)}\n{how}"

    def render(self, call: ToolCall) -> str:
        r"""Return the call on one line; ``<|`` within a string is written ``\u003c|``, since it begins the marks that end a reply."""
        return escaped(f"[{object_of(call, 'arguments')}]")

    def take(self, text: str, found: re.Match[str], tools: Tools) -> Scan:
        """Read the list, if it holds a call."""
        return self.take_loose(text, found, tools)


class Granite(ObjectForm):
    """Granite 3: a mark before the list. (Granite 4 writes ``hermes``.)"""

    name = "granite"
    stop: tuple[str, ...] = ("<|end_of_text|>",)
    expected = 'expected <|tool_call|>[{"name": "...", "arguments": {...}}]'
    mark = "<|tool_call|>"
    head = re.compile(r"(?:<\|tool_call\|>|<tool_call>)\s*\[\s*(?=\{)")
    following = re.compile(r"\s*,\s*(?=\{)")
    tail = re.compile(r"<\|end_of_text\|>")
    loose = re.compile(rf"<\|tool_call\|>\s*(?=\{{)|{BARE.pattern}")

    def instructions(self, tools: Tools) -> str:
        """Return the tools as signatures, one per line, and how to call one."""
        how = "Call one with <|tool_call|> and a JSON list of one object with two keys: name, the name of the tool, and arguments, its arguments."
        return f"{OPENING}\n{compact(tools, descriptions=True)}\n{how}"

    def render(self, call: ToolCall) -> str:
        r"""Return the call on one line; ``<|`` within a string is written ``\u003c|``, since it begins the marks that end a reply."""
        return "<|tool_call|>" + escaped(f"[{object_of(call, 'arguments')}]")

    def take_loose(self, text: str, found: re.Match[str], tools: Tools) -> Scan:
        """Read one object behind the mark, or a call without the mark."""
        return self.take(text, found, tools).noted("list") if found[0].startswith("<") else super().take_loose(text, found, tools)
