"""Reading what was passed to ``step``: a dict, a ``ToolCall`` or anything else becomes an ``Action``.

Total: it never raises, whatever the methods of what was passed do (``foreign.py`` says what about Ctrl-C).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from steptool_env.foreign import is_a, kind_of, message_of, shown
from steptool_env.jsontext import MAX_CHARS, MAX_DEPTH, clean, depth_fault, dumps, loads, quote
from steptool_env.types import Action, Malformed, ToolCall, Unanswered

__all__ = ["ReadAction", "as_action", "plain_call", "read"]

_EXPECTED = 'expected {"name": str, "arguments": {...}}'
_KEYS = ("name", "arguments")
_SCALARS = frozenset({int, float, bool, type(None)})


class ReadAction(NamedTuple):
    """What ``read`` returned, under a name: a form of the environment that has read its action already hands it to the core as this."""

    action: Action
    text: str


def as_action(action: Any) -> Action:
    """Read what was passed to ``step``. Total: anything that is not a call becomes a ``Malformed`` with the reason.

    The arguments are copied as JSON, so that later changes by the caller or a tool do not alter the record.
    """
    return read(action)[0]


def read(action: Any, own: bool = False) -> tuple[Action, str]:
    """Return the action and its text for the transcript. Total, like ``as_action``.

    Args:
        action: Anything.
        own: Whether it is a ``ToolCall`` that nobody else holds: then it need not be copied.
    """
    name: Any
    arguments: Any
    repaired: tuple[str, ...] = ()
    try:
        if type(action) is dict and len(action) == 2 and "name" in action and "arguments" in action:  # by far the most frequent form
            name, arguments = action["name"], action["arguments"]
        elif type(action) is ToolCall or is_a(action, ToolCall):
            name, arguments = action.name, action.arguments
            repaired = action.repaired if type(action) is ToolCall else ()
        elif is_a(action, Malformed):
            malformed, text = _malformed(_text(action.text), _text(action.reason))
            return (Unanswered(malformed.text, malformed.reason) if is_a(action, Unanswered) else malformed), text
        elif is_a(action, Mapping):
            name, arguments = action.get("name"), action.get("arguments", {})
            extra = [key for key, _ in zip((key for key in action if key not in _KEYS), range(50), strict=False)]
            if extra:
                return _malformed(shown(action), f"{_EXPECTED}, got further keys {shown(extra)}")
        else:
            return _malformed(shown(action), f"{_EXPECTED}, got {kind_of(action)}")
        if type(name) is not str:
            if not is_a(name, str):
                return _malformed(shown(action), f"{_EXPECTED}, got a name of type {kind_of(name)}")
            name = _text(name)
        if type(arguments) is not dict:
            if not is_a(arguments, Mapping):
                return _malformed(shown(action), f"{_EXPECTED}, got arguments {shown(arguments)}")
            arguments = _plain(arguments)
        try:
            # By far the most arguments are texts and numbers by name, which nobody can change: a copy of the dict is as good as one
            # through JSON, and the text is put together while each of them is looked at. That halves the time.
            pairs: list[str] = []
            for key, value in arguments.items():
                if type(key) is not str:
                    break
                if type(value) is str:
                    pairs.append(f"{quote(key)}: {quote(value)}")
                elif type(value) in _SCALARS:
                    pairs.append(f"{quote(key)}: {dumps(value)}")
                else:
                    break
            else:
                text = f'{{"name": {quote(name)}, "arguments": {{{", ".join(pairs)}}}}}'
                if len(text) <= MAX_CHARS and (text.isascii() or clean(text) == text):
                    return action if own else ToolCall(name, arguments.copy(), repaired), text
            for key in arguments:
                if type(key) is not str and not is_a(key, str):
                    return _malformed(shown(action), f"{_EXPECTED}, got arguments {shown(arguments)}")
            # Not ToolCall.as_dict: there is no call yet, and a copy of what is about to be copied would be one too many.
            text = dumps({"name": name, "arguments": arguments})
        except RecursionError:
            return _malformed(shown(action), f"the arguments are not JSON: nested more than {MAX_DEPTH} levels deep, or without end")
        except KeyboardInterrupt:
            raise
        except BaseException as fault:  # TypeError and ValueError of the encoder, and whatever a foreign value raises
            return _malformed(shown(action), f"the arguments are not JSON: {_why(fault)}")
        if len(text) > MAX_CHARS:
            return _malformed(shown(action), f"the arguments take {len(text)} characters; {MAX_CHARS} are allowed")
        text = clean(text)
        if deep := depth_fault(text, MAX_DEPTH + 2):
            return _malformed(shown(action), f"the arguments are no JSON that tools take: {deep}")
        return ToolCall(**loads(text), repaired=repaired), text
    except KeyboardInterrupt:
        raise
    except BaseException as fault:  # a method of the action
        return _malformed(shown(action), f"{_EXPECTED}, got {kind_of(action)} that cannot be read: {_why(fault)}")


def plain_call(call: Any) -> tuple[str, dict[str, Any] | None]:
    """Return name and arguments of a call in classes of their own, for whoever is given one that did not come through ``read``.

    The arguments are None if they are no mapping or cannot be read; a name that is no text becomes one that no tool has. Never raises.
    """
    name, arguments = "", None
    try:
        name = _text(call.name) if is_a(call.name, str) else f"<{kind_of(call.name)}>"
        arguments = _plain(call.arguments) if is_a(call.arguments, Mapping) else None
    except KeyboardInterrupt:
        raise
    except BaseException:  # a method of the call
        name = name or f"<{kind_of(call)}>"
    return name, arguments


def _plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {key: arguments[key] for key in arguments}


def _text(value: Any) -> str:
    """Return a text as a ``str`` of its own class, and anything else as ``str`` writes it."""
    return str.__str__(value) if is_a(value, str) else str.__str__(str(value))


def _why(fault: BaseException) -> str:
    return (message_of(fault) if is_a(fault, (TypeError, ValueError)) else "") or kind_of(fault)


def _malformed(text: str, reason: str) -> tuple[Malformed, str]:
    text = clean(text)
    return Malformed(text, clean(reason)), text
