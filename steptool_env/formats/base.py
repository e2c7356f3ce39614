"""``CallFormat``: how a tool call is written in a model's text, and the reading of JSON that the formats share."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from steptool_env.jsontext import MAX_DEPTH, depth_fault
from steptool_env.types import Action, Malformed, ToolCall

__all__ = ["DEEPEST", "CallFormat", "Reading", "Scan", "action_of", "as_call", "decode", "encode", "raw_decode", "read", "read_all"]

DEEPEST = MAX_DEPTH + 8
"""How deep the text of a call may be nested: its arguments, and what formats put around them. Whatever a model writes, no later reader or
writer recurses too deeply; how deep arguments may be that tools get is checked when the call is executed."""


@runtime_checkable
class CallFormat(Protocol):
    """A way to write one tool call as text. ``parse(render(call)) == call`` for every call with JSON arguments."""

    name: str
    stop: tuple[str, ...]
    """Texts at which generation can end: nothing after the first of them belongs to the call."""

    def instructions(self, tools: Sequence[Mapping[str, Any]]) -> str:
        """Return the system text for models whose chat template knows no tools: the tools, and how to call them.

        Args:
            tools: Function schemas, as in ``json.loads(observation["tools"])``.
        """
        ...

    def render(self, call: ToolCall) -> str:
        """Return the text of a call."""
        ...

    def parse(self, text: str, *, prefix: str = "", tools: Sequence[Mapping[str, Any]] = ()) -> Action:
        """Read the first call in an answer. Total, and linear in its length: text without a call becomes ``Malformed``.

        Args:
            text: What the model wrote.
            prefix: What the prompt wrote behind the last message, such as the ``<think>`` that some chat templates open.
            tools: Function schemas, as for ``instructions``: the types of arguments that a form writes without quotes, and the names on offer.
        """
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reply contains: its first call, and what surrounds it."""

    action: Action
    reasoning: str
    """The text before the call, without white space at its ends; all of it, if there is no call."""
    further: int
    """How many calls follow the first one in the same reply. They are not executed."""
    repaired: tuple[str, ...] = ()
    """Names of the slips that were forgiven, in alphabetical order: keys of ``REPAIRS``."""


@dataclass(frozen=True, slots=True)
class Scan:
    """One call found in a text, and its position."""

    action: Action
    begin: int
    end: int
    """Where the search for the next call goes on; after the call and its closing mark."""


def read(form: CallFormat, text: str, *, prefix: str = "", tools: Sequence[Mapping[str, Any]] = (), strict: bool = False) -> Reading:
    """Return the first call of a reply, the text before it, how many calls come after it, and what was forgiven in it.

    Args:
        form: How the call is written.
        text: What the model wrote.
        prefix: What the prompt wrote behind the last message.
        tools: Function schemas of the tools on offer.
        strict: Refuse a call that needs repairs: it becomes ``Malformed``, and the repairs are named in the reason.

    A format locates its calls with a method ``scan(text, begin) -> Scan | None``. One that has only ``parse``
    is read as well, but its reasoning and its further calls stay unknown.
    """
    scan: Callable[[str, int], Scan | None] | None = getattr(form, "scan", None)
    if scan is None:
        return Reading(form.parse(text), "", 0)
    return read_all(form, scan, text)


def read_all(form: CallFormat, scan: Callable[[str, int], Scan | None], text: str) -> Reading:
    """Scan the text call by call. Linear, because each scan begins where the last one ended and a broken call ends it."""
    first = scan(text, 0)
    if first is None or isinstance(first.action, Malformed):
        action = form.parse(text)
        return Reading(action, text[: first.begin].strip() if first is not None else text.strip(), 0)
    further, place = 0, first
    while (following := scan(text, place.end)) is not None and isinstance(following.action, ToolCall):
        further, place = further + 1, following
    return Reading(first.action, text[: first.begin].strip(), further)


def action_of(found: Scan | None, text: str, expected: str) -> Action:
    """Return the action of the first scan of a text; where it found nothing, ``Malformed`` with what was expected."""
    return found.action if found is not None else Malformed(text, f"there is no call; {expected}")


def encode(value: Any) -> str:
    """Return the value as JSON on one line. Unicode stays as it is, except for lone surrogates, which no tokenizer accepts."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, allow_nan=False)
    return text


def decode(text: str, start: int) -> Any:
    """Return the JSON value that begins at ``text[start]``; what comes after it is ignored.

    Raises:
        ValueError: There is no complete JSON value, or one that JSON cannot write again (NaN, 1e999, thousands of
            digits, thousands of brackets). The message says what is wrong and where.
    """
    return raw_decode(text, start)[0]


def raw_decode(text: str, start: int) -> tuple[Any, int]:
    """The same as ``decode``, with the position after the value."""
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as fault:
        place = "where it begins" if fault.pos <= start else f"after {text[max(start, fault.pos - 20) : fault.pos]!r}"
        raise ValueError(f"{fault.msg} {place}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if deep := depth_fault(text[start:end], DEEPEST):
        raise ValueError(deep)
    return value, end


def as_call(text: str, value: Any, key: str, expected: str, allowed: frozenset[str] = frozenset()) -> Action:
    """Return the call that a JSON object ``{"name": …, key: {…}}`` describes, or what is wrong with it.

    Args:
        text: The whole reply.
        value: The decoded JSON.
        key: Key of the arguments; it may be missing if there are none.
        expected: What the format expects, for the message.
        allowed: Further keys that mean nothing here, such as an id.
    """
    if not isinstance(value, dict):
        return Malformed(text, f"the call is no JSON object; {expected}")
    if not isinstance(value.get("name"), str):
        return Malformed(text, f"the call has no name; {expected}")
    arguments = value.get(key, {})
    if not isinstance(arguments, dict):
        return Malformed(text, f"the {key} are no JSON object; {expected}")
    if further := sorted(value.keys() - {"name", key} - allowed):
        return Malformed(text, f"the call has further keys, {', '.join(further)[:100]}; {expected}")
    return ToolCall(value["name"], arguments)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:40]} is no JSON number")
    return number


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)
