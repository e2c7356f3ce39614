"""Python literals, read without ``eval``: strings, numbers, True, False, None, lists, tuples and dicts. Linear and bounded in depth."""

from __future__ import annotations

import math
import re
from typing import Any

from steptool_env.formats.base import DEEPEST, encode

__all__ = ["literal", "skip", "write"]

_SPACE = re.compile(r"\s*")
# Possessive (*+): what has been read is not tried another way, so that a string without an end costs no memory.
_STRING = re.compile(r'"([^"\\\n]*+(?:\\[\s\S][^"\\\n]*+)*+)"' + r"|'([^'\\\n]*+(?:\\[\s\S][^'\\\n]*+)*+)'")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WORD = re.compile(r"[A-Za-z]+")
_WORDS = {"True": True, "False": False, "None": None, "true": True, "false": False, "null": None}
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|U([0-9a-fA-F]{8})|([0-7]{1,3})|([\s\S]))")
_SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v", "0": "\0", "\n": ""}


def write(value: Any) -> str:
    """Return a JSON value as a Python literal on one line; strings are in double quotes. Raises ValueError for NaN."""
    if value is None or value is True or value is False:
        return repr(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{encode(str(key))}: {write(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(write, value)) + "]"
    return encode(value)


def literal(text: str, begin: int, depth: int = 0) -> tuple[Any, int]:
    """Return the value that begins at ``text[begin]`` (white space before it is skipped) and the position after it.

    Tuples become lists, as JSON has none; ``true``, ``false`` and ``null`` are taken for what they mean.

    Raises:
        ValueError: There is no complete value that JSON can write; the message says what is wrong and where.
    """
    if depth > DEEPEST:
        raise ValueError("it is nested too deeply")
    begin = skip(text, begin)
    char = text[begin : begin + 1]
    if char in ("'", '"'):
        return _string(text, begin)
    if char in ("[", "("):
        return _sequence(text, begin, depth)
    if char == "{":
        return _mapping(text, begin, depth)
    if match := _NUMBER.match(text, begin):
        return _number(match[0]), match.end()
    if (match := _WORD.match(text, begin)) and match[0] in _WORDS:
        return _WORDS[match[0]], match.end()
    raise ValueError(f"expecting a value {_where(text, begin)}")


def skip(text: str, begin: int) -> int:
    """Return the position of the next character that is not white space."""
    match = _SPACE.match(text, begin)
    return match.end() if match else begin


def _where(text: str, place: int) -> str:
    return f"after {text[max(0, place - 20) : place]!r}"


def _string(text: str, begin: int) -> tuple[str, int]:
    match = _STRING.match(text, begin)
    if match is None:
        raise ValueError(f"a string has no end {_where(text, begin)}")
    body = match[1] if match[1] is not None else match[2]
    if "\\" in body:
        body = _ESCAPE.sub(_unescape, body)
        if any("\ud800" <= char <= "\udbff" for char in body):  # two escapes can write one character, as in JSON
            body = body.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return body, match.end()


def _unescape(match: re.Match[str]) -> str:
    if digits := match[1] or match[2] or match[3]:
        code = int(digits, 16)
        if code > 0x10FFFF:
            raise ValueError(f"there is no character \\U{digits}")
        return chr(code)
    if match[4]:
        return chr(int(match[4], 8))
    char = match[5]
    if char in ("\\", "'", '"', "/"):
        return char
    return _SIMPLE.get(char, "\\" + char)  # as Python does: a backslash that escapes nothing stays


def _number(digits: str) -> int | float:
    if digits.lstrip("+-").isdigit():
        if len(digits) > 4000:  # more than Python would write again
            raise ValueError(f"{digits[:40]}… has too many digits for a JSON number")
        return int(digits)
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:40]} is no JSON number")
    return number


def _sequence(text: str, begin: int, depth: int) -> tuple[list[Any], int]:
    close = "]" if text[begin] == "[" else ")"
    items: list[Any] = []
    place = skip(text, begin + 1)
    while text[place : place + 1] != close:
        item, place = literal(text, place, depth + 1)
        items.append(item)
        place = _comma(text, place, close)
    return items, place + 1


def _mapping(text: str, begin: int, depth: int) -> tuple[dict[str, Any], int]:
    items: dict[str, Any] = {}
    place = skip(text, begin + 1)
    while text[place : place + 1] != "}":
        if text[place : place + 1] not in ("'", '"'):
            raise ValueError(f"expecting a key in quotes {_where(text, place)}")
        key, place = _string(text, place)
        place = skip(text, place)
        if text[place : place + 1] != ":":
            raise ValueError(f"expecting ':' {_where(text, place)}")
        items[key], place = literal(text, place + 1, depth + 1)
        place = _comma(text, place, "}")
    return items, place + 1


def _comma(text: str, place: int, close: str) -> int:
    place = skip(text, place)
    char = text[place : place + 1]
    if char == close:
        return place
    if char != ",":
        raise ValueError(f"expecting ',' or {close!r} {_where(text, place)}")
    return skip(text, place + 1)
