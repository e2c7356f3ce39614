"""Conversion between transcripts and chat messages with native tool calls (OpenAI format)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from steptool_env.jsontext import MAX_DEPTH, depth_fault
from steptool_env.types import Action, Malformed, Message, ToolCall

__all__ = ["LONGEST", "as_tool_calls", "earlier_call", "read_tool_call"]

LONGEST = 250_000
"""Most characters of an answer that are read as an action. Far beyond what a model can say in one turn; a server can send megabytes, and
every later step would carry them along."""


def as_tool_calls(messages: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return a transcript in the OpenAI format.

    Args:
        messages: Pairs of role and content.

    Returns:
        Messages with calls as ``tool_calls`` and results as ``tool`` messages with the id of their call.
    """
    chat: list[dict[str, Any]] = []
    call_id = ""
    for number, (role, content) in enumerate(messages):
        call = earlier_call(Message(role, content)) if role == "assistant" else None
        if call is not None:
            call_id = f"call_{number}"
            function = {"name": call.name, "arguments": json.dumps(dict(call.arguments), ensure_ascii=False)}
            chat.append({"role": "assistant", "content": None, "tool_calls": [{"id": call_id, "type": "function", "function": function}]})
        elif role == "tool" and call_id:
            chat.append({"role": "tool", "tool_call_id": call_id, "content": content})
            call_id = ""
        else:
            if call_id:  # a call must be followed by its result, but here comes a user message
                chat.append({"role": "tool", "tool_call_id": call_id, "content": ""})
                call_id = ""
            chat.append({"role": "user" if role == "tool" else role, "content": content})
    return chat


def read_tool_call(message: Mapping[str, Any]) -> Action:
    """Return the first native tool call of an assistant message, or ``Malformed`` if there is none or it is broken."""
    calls = message.get("tool_calls") or []
    if not calls:
        return Malformed(_short(message.get("content") or ""), "no tool was called")
    try:
        function = calls[0]["function"]
        name, arguments = function["name"], function["arguments"]
        if not isinstance(name, str):
            raise ValueError("its name is no text")
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        if len(name) + len(text) > LONGEST:
            raise ValueError(f"it is longer than {LONGEST} characters")
        if fault := depth_fault(text, MAX_DEPTH + 1):
            raise ValueError(fault)
        arguments = json.loads(text or "{}")
        if not isinstance(arguments, dict):
            raise ValueError("the arguments are no object")
        return ToolCall(name, arguments)
    except (KeyError, TypeError, ValueError, RecursionError) as fault:
        return Malformed(_short(calls), f"the tool call is broken: {fault}")


def _short(calls: Any) -> str:
    """Return the beginning of tool calls, or of a text, as text, whatever they hold."""
    try:
        return (calls if isinstance(calls, str) else json.dumps(calls, ensure_ascii=False))[:2000]
    except RecursionError:
        return "(calls that are nested too deeply)"


def earlier_call(message: Message) -> ToolCall | None:
    """Return the call that a transcript stores as JSON; None if the content is not a call."""
    try:
        record = json.loads(message.content)
        return ToolCall(record["name"], record["arguments"]) if isinstance(record["arguments"], dict) else None
    except (KeyError, RecursionError, TypeError, ValueError):
        return None
