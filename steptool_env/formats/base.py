"""``CallFormat``: how a tool call is written in a model's text, and the reading of JSON that the formats share."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from steptool_env.types import Action, ToolCall

__all__ = ["CallFormat", "decode", "encode"]


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

    def parse(self, text: str) -> Action:
        """Read the first call in the text. Total, and linear in its length: what is no call becomes ``Malformed``."""
        ...


def encode(value: Any) -> str:
    """Return the value as JSON on one line. Unicode stays as it is, but for lone surrogates, which no tokenizer takes."""
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
    try:
        return _DECODER.raw_decode(text, start)[0]
    except json.JSONDecodeError as fault:
        place = "where it begins" if fault.pos <= start else f"after {text[max(start, fault.pos - 20) : fault.pos]!r}"
        raise ValueError(f"{fault.msg} {place}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:40]} is no JSON number")
    return number


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)
