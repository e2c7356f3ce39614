"""JSON as text, fast and total: one encoder and one scanner for the whole process, and a bound on depth.

``json.dumps`` and ``json.loads`` build a new coder at every call with non-default options; here they are built once.
"""

from __future__ import annotations

import itertools
import json
import json.encoder
import re
from collections.abc import Callable
from typing import Any

__all__ = ["MAX_CHARS", "MAX_DEPTH", "clean", "depth_fault", "dumps", "dumps_ascii", "dumps_loose", "loads", "quote"]

MAX_DEPTH = 64
"""How deep arguments and results may be nested. Far beyond any schema, and far below what makes readers recurse too deeply."""
MAX_CHARS = 1_000_000
"""How many characters a call may take as JSON: more than a model writes. Longer ones are refused before anybody looks into them."""

_SCAN: Callable[[str, int], tuple[Any, int]] = vars(json.JSONDecoder())["scan_once"]


def _refuse(value: Any) -> Any:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _make(ensure_ascii: bool, allow_nan: bool) -> Callable[[Any], str]:
    c_make_encoder: Any = getattr(json.encoder, "c_make_encoder", None)
    if c_make_encoder is None:  # another Python than CPython
        return json.JSONEncoder(ensure_ascii=ensure_ascii, allow_nan=allow_nan).encode
    quote = json.encoder.encode_basestring_ascii if ensure_ascii else json.encoder.encode_basestring
    # Without the dict of markers a circle ends as a RecursionError instead of a ValueError; all callers take both.
    encode = c_make_encoder(None, _refuse, quote, None, ": ", ", ", False, False, allow_nan)

    def dump(value: Any) -> str:
        return "".join(encode(value, 0))

    return dump


dumps: Callable[[Any], str] = _make(False, False)
"""Value -> JSON on one line, Unicode as it is. Raises ValueError (NaN), TypeError (no JSON) or RecursionError (a circle)."""
dumps_loose: Callable[[Any], str] = _make(False, True)
"""The same, but NaN and Infinity pass, as foreign tools return them."""
dumps_ascii: Callable[[Any], str] = _make(True, True)
"""The same as ``json.dumps`` with no options."""


quote: Callable[[str], str] = json.encoder.encode_basestring
"""A text as JSON, Unicode as it is: what ``dumps`` makes of it, at a fifth of the time."""


def loads(text: str) -> Any:
    """Return the value of a text that ``dumps`` wrote; raises ValueError (thousands of digits) or RecursionError."""
    return _SCAN(text, 0)[0]


def depth_fault(text: str, limit: int = MAX_DEPTH) -> str:
    """Return what is wrong with the nesting of a JSON text, or ``""``. Linear, and almost free for flat values."""
    if text.count("{") + text.count("[") <= limit:
        return ""
    # Without strings and all that is no bracket, each byte is a step down or up: 1 or -1 as a signed number.
    steps = _STRING.sub(b"", text.encode("utf-8", "replace")).translate(_STEPS, _NO_BRACKETS)
    deepest = max(itertools.accumulate(memoryview(steps).cast("b")), default=0)
    return f"it is nested more than {limit} levels deep" if deepest > limit else ""


_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"{}[]")
_STEPS = bytes.maketrans(b"{[}]", b"\x01\x01\xff\xff")


def clean(text: str) -> str:
    """Replace lone surrogates, which can be neither encoded nor stored nor tokenized."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
