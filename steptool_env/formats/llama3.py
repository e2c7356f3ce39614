"""``llama3``: ``{"name": …, "parameters": {…}}``, the bare JSON object that Llama 3.1 and its successors write."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from steptool_env.formats.base import Scan, action_of, as_call, encode, raw_decode
from steptool_env.formats.signature import OPENING, compact
from steptool_env.types import Action, Malformed, ToolCall

__all__ = ["Llama3"]

_CALL = re.compile(r'\{\s*"(?:name|parameters|type)"\s*:')
_TAG = "<|python_tag|>"
_EXPECTED = 'expected {"name": "...", "parameters": {...}}'


class Llama3:
    """One JSON object; text before it is reasoning. Some checkpoints put ``<|python_tag|>`` before it and ``"type": "function"`` in it."""

    name = "llama3"
    stop: tuple[str, ...] = ("<|eom_id|>", "<|eot_id|>")

    def instructions(self, tools: Sequence[Mapping[str, Any]]) -> str:
        """Return the tools as signatures, one per line, and how to call one."""
        return (
            f"{OPENING}\n"
            f"{compact(tools, descriptions=True)}\n"
            "Call one with a JSON object of two keys: name, the name of the tool, and parameters, its arguments. Do not use variables."
        )

    def render(self, call: ToolCall) -> str:
        r"""Return the call on one line; ``<|`` within a string is written ``\u003c|``, since it begins the marks that end a reply."""
        return encode({"name": call.name, "parameters": dict(call.arguments)}).replace("<|", r"\u003c|")

    def parse(self, text: str, *, prefix: str = "", tools: Sequence[Mapping[str, Any]] = ()) -> Action:
        """Read the first call; the first object that begins with a key of a call decides."""
        return action_of(self.scan(text, 0), text, _EXPECTED)

    def scan(self, text: str, begin: int) -> Scan | None:
        """Find the first call from ``begin`` on."""
        found = _CALL.search(text, begin)
        if found is None:
            return None
        start = found.start()
        begin_of_call = start - len(_TAG) if text.endswith(_TAG, begin, start) else start
        try:
            value, end = raw_decode(text, start)
        except ValueError as fault:
            return Scan(Malformed(text, f"the JSON of the call is broken: {fault}; {_EXPECTED}"), begin_of_call, len(text))
        if isinstance(value, dict) and value.get("type") == "function":
            value = {key: item for key, item in value.items() if key != "type"}
        return Scan(as_call(text, value, "parameters", _EXPECTED), begin_of_call, end)
