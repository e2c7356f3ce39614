"""``llama3``: ``{"name": …, "parameters": {…}}``, the bare JSON object that Llama 3.1 and its successors write."""

from __future__ import annotations

import re

from steptool_env.formats.base import Scan, Tools
from steptool_env.formats.jsonvalue import raw_decode
from steptool_env.formats.objects import BARE, ObjectForm, escaped, object_of
from steptool_env.formats.signature import OPENING, compact
from steptool_env.types import ToolCall

__all__ = ["Llama3"]

_TAG = "<|python_tag|>"


class Llama3(ObjectForm):
    """One JSON object; text before it is reasoning. Some checkpoints put ``<|python_tag|>`` before it and ``"type": "function"`` in it."""

    name = "llama3"
    stop: tuple[str, ...] = ("<|eom_id|>", "<|eot_id|>")
    expected = 'expected {"name": "...", "parameters": {...}}'
    key = "parameters"
    allowed = frozenset({"type"})
    bare = True
    head = BARE
    loose = None

    def instructions(self, tools: Tools) -> str:
        """Return the tools as signatures, one per line, and how to call one."""
        return (
            f"{OPENING}\n"
            f"{compact(tools, descriptions=True)}\n"
            "Call one with a JSON object of two keys: name, the name of the tool, and parameters, its arguments. Do not use variables."
        )

    def render(self, call: ToolCall) -> str:
        r"""Return the call on one line; ``<|`` within a string is written ``\u003c|``, since it begins the marks that end a reply."""
        return escaped(object_of(call, "parameters"))

    def take(self, text: str, found: re.Match[str], tools: Tools) -> Scan:
        """Read the object, if it is a call."""
        if not found.start() and found.re is self.head:  # a plain call, and nothing else
            try:
                value, end = raw_decode(text, 0)
                if type(value) is dict and len(value) == 2:
                    name, arguments = value.get("name"), value.get("parameters")
                    if type(name) is str and type(arguments) is dict:
                        return Scan(ToolCall(name, arguments), 0, end)
            except ValueError:
                pass
        scan = self.take_loose(text, found, tools)
        return scan._replace(begin=scan.begin - len(_TAG)) if text.endswith(_TAG, 0, scan.begin) else scan
