"""Reading what was passed to ``step``: a dict, a ``ToolCall`` or anything else becomes an ``Action``. Total: it never raises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steptool_env.jsontext import MAX_DEPTH, clean, depth_fault, dumps, loads
from steptool_env.types import Action, Malformed, ToolCall, Unanswered

__all__ = ["as_action", "read", "short"]

_EXPECTED = 'expected {"name": str, "arguments": {...}}'
_KEYS = ("name", "arguments")


def as_action(action: Any) -> Action:
    """Read what was passed to ``step``. Total: anything that is not a call becomes a ``Malformed`` with the reason.

    The arguments are copied as JSON, so that later changes by the caller or a tool do not alter the record.
    """
    return read(action)[0]


def read(action: Any) -> tuple[Action, str]:
    """Return the action and its text for the transcript. Total, like ``as_action``."""
    name: Any
    arguments: Any
    repaired: tuple[str, ...] = ()
    if type(action) is dict and len(action) == 2 and "name" in action and "arguments" in action:  # by far the most frequent form
        name, arguments = action["name"], action["arguments"]
    elif isinstance(action, Malformed):
        malformed, text = _malformed(str(action.text), str(action.reason))
        return (Unanswered(malformed.text, malformed.reason) if isinstance(action, Unanswered) else malformed), text
    elif isinstance(action, ToolCall):
        name, arguments, repaired = action.name, action.arguments, action.repaired
    elif isinstance(action, Mapping):
        try:
            name, arguments = action.get("name"), action.get("arguments", {})
            extra = [key for key in action if key not in _KEYS]
        except Exception as fault:  # a foreign mapping may do anything
            return _malformed(short(action), f"{_EXPECTED}, got a mapping that cannot be read: {type(fault).__name__}")
        if extra:
            return _malformed(short(action), f"{_EXPECTED}, got further keys {short(extra)}")
    else:
        return _malformed(short(action), f"{_EXPECTED}, got {type(action).__name__}")
    if not isinstance(name, str):
        return _malformed(short(action), f"{_EXPECTED}, got a name of type {type(name).__name__}")
    if type(arguments) is not dict and not isinstance(arguments, Mapping):
        return _malformed(short(action), f"{_EXPECTED}, got arguments {short(arguments)}")
    try:
        for key in arguments:
            if not isinstance(key, str):
                return _malformed(short(action), f"{_EXPECTED}, got arguments {short(arguments)}")
        flat = type(name) is str and type(arguments) is dict
        # Not ToolCall.as_dict: there is no call yet, and a copy of what is about to be copied would be one too many.
        text = dumps({"name": name, "arguments": arguments if type(arguments) is dict else dict(arguments)})
        if flat and text.isascii():
            for key, value in arguments.items():
                if type(value) is not str or type(key) is not str:
                    break
            else:  # nothing but texts, which nobody can change: a copy of the dict is as good as one through JSON, at a third of the time
                return ToolCall(name, dict(arguments), repaired), text
        text = clean(text)
        if deep := depth_fault(text, MAX_DEPTH + 2):
            return _malformed(short(action), f"the arguments are no JSON that tools take: {deep}")
        return ToolCall(**loads(text), repaired=repaired), text
    except RecursionError:
        return _malformed(short(action), f"the arguments are not JSON: nested more than {MAX_DEPTH} levels deep, or without end")
    except Exception as fault:  # TypeError and ValueError of the encoder, and whatever a foreign mapping raises
        return _malformed(short(action), f"the arguments are not JSON: {_message(fault)}")


def short(value: Any) -> str:
    """Return ``repr(value)``, at most 200 characters; never raises."""
    try:
        return repr(value)[:200]
    except Exception:  # a foreign __repr__ may do anything
        return f"<{type(value).__name__}>"


def _message(fault: Exception) -> str:
    try:
        return str(fault)[:200]
    except Exception:
        return type(fault).__name__


def _malformed(text: str, reason: str) -> tuple[Malformed, str]:
    text = clean(text)
    return Malformed(text, clean(reason)), text
