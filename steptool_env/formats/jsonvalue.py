"""Values of JSON within a longer text: written on one line, read where they begin, never deeper than what later readers take."""

from __future__ import annotations

import json
import json.scanner
import math
from collections.abc import Callable
from typing import Any

from steptool_env.jsontext import MAX_DEPTH, depth_fault

__all__ = ["DEEPEST", "decode", "encode", "raw_decode"]

DEEPEST = MAX_DEPTH + 8
"""How deep the text of a call may be nested: its arguments, and what formats put around them. Whatever a model writes, no later reader or
writer recurses too deeply; how deep arguments may be that tools get is checked when the call is executed."""


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
        value, end = _SCAN(text, start)
    except StopIteration as fault:
        raise ValueError(f"Expecting value {_where(text, start, fault.value)}") from None
    except json.JSONDecodeError as fault:
        raise ValueError(f"{fault.msg} {_where(text, start, fault.pos)}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if end - start > DEEPEST and text.count("{", start, end) + text.count("[", start, end) > DEEPEST and (deep := depth_fault(text[start:end], DEEPEST)):
        raise ValueError(deep)
    return value, end


def _where(text: str, start: int, place: int) -> str:
    return "where it begins" if place <= start else f"after {text[max(start, place - 20) : place]!r}"


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:40]} is no JSON number")
    return number


_SCAN: Callable[[str, int], tuple[Any, int]] = vars(json.JSONDecoder(parse_float=_finite, parse_constant=_finite))["scan_once"]
