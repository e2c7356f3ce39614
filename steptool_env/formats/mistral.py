"""``mistral``: ``[TOOL_CALLS] [{"name": …, "arguments": {…}}]``; ``mistral-v11``, the form of newer models: ``[TOOL_CALLS]name[ARGS]{…}``."""

from __future__ import annotations

import re

from steptool_env.formats.base import Scan, Tools
from steptool_env.formats.named import NAME, NamedForm
from steptool_env.formats.objects import BARE, ObjectForm, object_of
from steptool_env.formats.signature import OPENING, compact
from steptool_env.types import ToolCall

__all__ = ["Mistral", "MistralV11"]

_MARK = "[TOOL_CALLS]"
# Where no mark stands before it, the name must begin where a name can: else each letter of a long one would be tried.
_BEGIN = r"""(?<![^\s<>{}\[\]()"'`|｜])"""
_NAMED = rf"(?P<name>{NAME})(?:\[CALL_ID\][^\s\[\]{{}}]*)?\[ARGS\]\s*(?=\{{)"


class MistralV11(NamedForm):
    """A mark, the name, a mark and the arguments; an id of the call may stand between."""

    name = "mistral-v11"
    stop: tuple[str, ...] = ("</s>",)
    expected = f"expected {_MARK}name of the tool[ARGS]{{...}}"
    mark = _MARK
    head = re.compile(rf"\[TOOL_CALLS\]\s*{_NAMED}")
    written = (_MARK, "[ARGS]", "")
    escape = ("</s>", r"<\/s>")
    # The marks are special tokens, which some servers leave out; and some models leave out the second one.
    loose = re.compile(rf"\[TOOL_CALLS\](?P<other>{NAME})\s*(?=\{{)|{_BEGIN}{_NAMED}")
    how = f"{_MARK}, the name of the tool, [ARGS], and its arguments as a JSON object"

    def take_loose(self, text: str, found: re.Match[str], tools: Tools) -> Scan:
        """Read a call with one of its two marks."""
        return self.take(text, found, tools).noted("missing mark")


class Mistral(ObjectForm):
    """A mark, then a JSON list of calls. Ids of calls, and the newer form, are read as well."""

    name = "mistral"
    stop: tuple[str, ...] = ("</s>",)
    expected = f'expected {_MARK} [{{"name": "...", "arguments": {{...}}}}]'
    mark = _MARK
    allowed = frozenset({"id"})
    head = re.compile(rf"\[TOOL_CALLS\]\s*(?:\[\s*(?=\{{)|{_NAMED})")
    following = re.compile(r"\s*,\s*(?=\{)")
    loose = re.compile(
        rf"\[TOOL_CALLS\](?:\s*(?=\{{)|[^\[\]{{}}]{{0,80}}\[\s*(?=\{{)|(?P<name>{NAME})\s*(?=\{{))|{_BEGIN}{_NAMED.replace('name', 'other')}|{BARE.pattern}"
    )

    def instructions(self, tools: Tools) -> str:
        """Return the tools as signatures, one per line, and how to call one."""
        return (
            f"{OPENING}\n"
            f"[AVAILABLE_TOOLS]\n{compact(tools, descriptions=True)}\n[/AVAILABLE_TOOLS]\n"
            f"Call one with {_MARK} and a JSON list of one object: [an object with name, the name of the tool, and arguments, its arguments]"
        )

    def render(self, call: ToolCall) -> str:
        r"""Return the call on one line; ``</s>`` within a string is written ``<\/s>``."""
        return f"{_MARK} [{object_of(call, 'arguments')}]".replace("</s>", r"<\/s>")

    def take(self, text: str, found: re.Match[str], tools: Tools) -> Scan:
        """Read the first object of the list, or a call in the newer form."""
        return _V11.take(text, found, tools) if found.re is self.head and found["name"] is not None else super().take(text, found, tools)

    def take_loose(self, text: str, found: re.Match[str], tools: Tools) -> Scan:
        """Read a call behind another mark than its own, or one without any."""
        if found["name"] is not None or found["other"] is not None:
            return _V11.take(text, found, tools).noted("missing mark")
        if found[0].startswith(_MARK):
            return super().take(text, found, tools).noted("words before the arguments" if found[0][len(_MARK) :].strip(" [\n") else "list")
        return super().take_loose(text, found, tools)


_V11 = MistralV11()
