"""Values as models write them: JSON, Python literals, and what lies between. Read without ``eval``, in linear time, bounded in depth.

What deviates from a form's own notation is forgiven where it can mean one thing only, and noted by name.
"""

from __future__ import annotations

import math
import re
from typing import Any

from steptool_env.formats.jsonvalue import DEEPEST, encode, raw_decode

__all__ = ["JSON", "PYTHON", "Values", "python", "skip"]

JSON: frozenset[str] = frozenset()
"""What is no slip in JSON."""
PYTHON = frozenset({"Python literal", "trailing comma", "comment", "raw escape"})
"""What is no slip in Python."""

_SPACE = re.compile(r"\s*+")
# Possessive (*+): what has been read is not tried another way, so that a string without an end costs no memory.
_STRING = re.compile(r'"([^"\\]*+(?:\\[\s\S][^"\\]*+)*+)"' + r"|'([^'\\]*+(?:\\[\s\S][^'\\]*+)*+)'")
_TRIPLE = re.compile(r'"""((?:[^"\\]++|\\[\s\S]|"(?!""))*+)"""' + r"|'''((?:[^'\\]++|\\[\s\S]|'(?!''))*+)'''")
_RAW = re.compile(r"""[rR](?=["'])""")
_CONTROL = re.compile(r"[\x00-\x1f]")
_NUMBER = re.compile(
    r"[+-]?(?:0[xX][0-9a-fA-F_]++|0[oO][0-7_]++|0[bB][01_]++|(?:[0-9][0-9_]*+(?:\.[0-9_]*+)?+|\.[0-9][0-9_]*+)(?:[eE][+-]?[0-9]++)?+)(?![\w.])"
)
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+")
_LEADING_ZERO = re.compile(r"[+-]?0[0-9_]*[1-9][0-9_]*+$")
_WORD = re.compile(r"[^\W\d]\w*+")
_BARE = re.compile(r"\s*+[,\])}]")
_KEY = re.compile(r"[^\W][\w.\-]*+")
_WORDS = {"True": True, "False": False, "None": None, "true": True, "false": False, "null": None}
_JSON_FIRST = ('"', "{", "[")
_NO_VALUES = frozenset({"nan", "inf", "infinity"})
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|U([0-9a-fA-F]{8})|([0-7]{1,3})|([\s\S]))")
_SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v", "\n": ""}


def python(value: Any) -> str:
    """Return a JSON value as a Python literal on one line; strings are in double quotes. Raises ValueError for NaN."""
    if value is None or value is True or value is False:
        return repr(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{encode(str(key))}: {python(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(python, value)) + "]"
    return encode(value)


def skip(text: str, begin: int) -> int:
    """Return the position of the next character that is not white space."""
    match = _SPACE.match(text, begin)
    return match.end() if match else begin


class Values:
    """Reads the values of one text.

    Args:
        text: The text.
        native: What is no slip in this notation: ``JSON``, ``PYTHON`` or names of repairs.
        close: What ends the whole call: where it stands in place of brackets, these are taken as forgotten.
        quotes: Further marks around strings, in which nothing is escaped.
        bare: Whether a single word that stands for a value is taken as a text.
    """

    def __init__(
        self, text: str, native: frozenset[str] = JSON, *, close: re.Pattern[str] | None = None, quotes: tuple[str, ...] = (), bare: bool = False
    ) -> None:
        self.text, self.native, self.close, self.quotes, self.bare = text, native, close, quotes, bare
        self.slips: set[str] = set()
        """Names of what was forgiven so far."""

    def note(self, slip: str) -> None:
        """Count a slip, unless it is none in this notation."""
        if slip not in self.native:
            self.slips.add(slip)

    def read(self, begin: int) -> tuple[Any, int]:
        """Return the value that begins at ``text[begin]`` and the position after it.

        Raises:
            ValueError: There is no complete value that JSON can write; the message says what is wrong and where.
        """
        if self.text[begin : begin + 1] not in _JSON_FIRST or self.text.startswith('"""', begin):
            return self.value(begin)
        try:  # what is JSON is JSON in every notation, and this costs a tenth
            return raw_decode(self.text, begin)
        except ValueError as fault:
            try:
                return self.value(begin)
            except ValueError as other:
                raise (other if self.native else fault) from None

    def value(self, begin: int, depth: int = 0) -> tuple[Any, int]:
        """The same without the shortcut; white space and comments before the value are skipped."""
        if depth > DEEPEST:
            raise ValueError("it is nested too deeply")
        text = self.text
        begin = self.space(begin)
        char = text[begin : begin + 1]
        if char == '"' or char == "'" or _RAW.match(text, begin):
            return self._string(begin)
        if char == "[" or char == "(":
            return self._sequence(begin, depth)
        if char == "{":
            return self.mapping(begin + 1, depth)
        for mark in self.quotes:
            if text.startswith(mark, begin):
                end = text.find(mark, begin + len(mark))
                if end < 0:
                    raise ValueError(f"a string has no end {self.where(begin)}")
                return text[begin + len(mark) : end], end + len(mark)
        if match := _NUMBER.match(text, begin):
            return self._number(match[0]), match.end()
        if match := _WORD.match(text, begin):
            word = match[0]
            if word in _WORDS:
                self.note("Python literal" if word[0].isupper() else "JSON literal" if "Python literal" in self.native else "")
                return _WORDS[word], match.end()
            if self.bare and word.lower() not in _NO_VALUES and _BARE.match(text, match.end()):
                self.note("text without quotes")
                return word, match.end()
        raise ValueError(f"expecting a value of JSON {self.where(begin)}")

    def mapping(self, place: int, depth: int = 0) -> tuple[dict[str, Any], int]:
        """Return the object whose first key begins at ``text[place]``, behind its brace, and the position after it."""
        text = self.text
        items: dict[str, Any] = {}
        place = self.space(place)
        while text[place : place + 1] != "}":
            key, place = self._key(place)
            place = self.space(place)
            if text[place : place + 1] != ":":
                raise ValueError(f"expecting ':' {self.where(place)}")
            items[key], place = self.value(place + 1, depth + 1)
            place, forgotten = self._comma(place, "}")
            if forgotten:
                return items, place
        return items, place + 1

    def space(self, begin: int) -> int:
        """Return the position of the next character that is neither white space nor in a comment."""
        text = self.text
        begin = skip(text, begin)
        while text[begin : begin + 1] == "#":
            end = text.find("\n", begin)
            self.note("comment")
            begin = skip(text, end) if end >= 0 else len(text)
        return begin

    def where(self, place: int) -> str:
        """Return where something is wrong, for a message."""
        return f"after {self.text[max(0, place - 20) : place]!r}"

    # ---------------------------------------------------------------- parts
    def _key(self, place: int) -> tuple[str, int]:
        text = self.text
        if text[place : place + 1] in ('"', "'"):
            return self._string(place)
        for mark in self.quotes:
            if text.startswith(mark, place) and (end := text.find(mark, place + len(mark))) >= 0:
                return text[place + len(mark) : end], end + len(mark)
        if match := _KEY.match(text, place):
            self.note("key without quotes")
            return match[0], match.end()
        raise ValueError(f"expecting a key in quotes {self.where(place)}")

    def _string(self, begin: int) -> tuple[str, int]:
        text = self.text
        raw = text[begin] in "rR"
        place = begin + raw
        match = _TRIPLE.match(text, place)
        triple = match is not None
        if match is None:
            match = _STRING.match(text, place)
        if match is None:
            raise ValueError(f"a string has no end {self.where(begin)}")
        body = match[1] if match[1] is not None else match[2]
        if raw or triple or text[place] == "'":
            self.note("Python literal")
        if not triple and _CONTROL.search(body):
            self.note("raw line break")
        if "\\" in body and not raw:
            body = _ESCAPE.sub(self._unescape, body)
            if any("\ud800" <= char <= "\udbff" for char in body):  # two escapes can write one character, as in JSON
                body = body.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        return body, match.end()

    def _unescape(self, match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1], 16))
        char = match[5]
        if char in ("\\", '"', "/") or (char and char in "bfnrt"):
            return _SIMPLE.get(char, char)
        self.note("raw escape")
        if digits := match[2] or match[3]:
            code = int(digits, 16)
            if code > 0x10FFFF:
                raise ValueError(f"there is no character \\U{digits}")
            return chr(code)
        if match[4]:
            return chr(int(match[4], 8))
        return "'" if char == "'" else _SIMPLE.get(char, "\\" + char)  # as Python does: a backslash that escapes nothing stays

    def _number(self, digits: str) -> int | float:
        plain = _JSON_NUMBER.fullmatch(digits) is not None
        if not plain:
            if _LEADING_ZERO.match(digits):
                raise ValueError(f"{digits[:40]} is no JSON number")  # a code, or a number with a slip: nobody knows
            self.note("Python literal")
        bare = digits.lstrip("+-")
        try:
            if bare.isdigit() and len(bare) > 4000:  # more than Python would write again
                raise ValueError(f"{digits[:40]}… has too many digits for a JSON number")
            if not plain and bare[:1] == "0" and bare[1:2] in "xXoObB" and bare[1:]:
                return self._bounded(int(digits.replace("_", ""), 0))
            if bare.replace("_", "").isdigit():
                return int(digits)
            number = float(digits)
        except ValueError as fault:
            raise ValueError(str(fault) if "JSON" in str(fault) else f"{digits[:40]} is no JSON number") from None
        if not math.isfinite(number):
            raise ValueError(f"{digits[:40]} is no JSON number")
        return number

    @staticmethod
    def _bounded(number: int) -> int:
        if number.bit_length() > 13_000:
            raise ValueError("it has too many digits for a JSON number")
        return number

    def _sequence(self, begin: int, depth: int) -> tuple[list[Any], int]:
        text = self.text
        close = "]" if text[begin] == "[" else ")"
        if close == ")":
            self.note("Python literal")
        items: list[Any] = []
        place = self.space(begin + 1)
        while text[place : place + 1] != close:
            item, place = self.value(place, depth + 1)
            items.append(item)
            place, forgotten = self._comma(place, close)
            if forgotten:
                return items, place
        return items, place + 1

    def _comma(self, place: int, close: str) -> tuple[int, bool]:
        """Return the position after the comma, or of the bracket that closes; and whether that bracket was forgotten."""
        text = self.text
        place = self.space(place)
        char = text[place : place + 1]
        if char == close:
            return place, False
        if char == ",":
            after = self.space(place + 1)
            if text[after : after + 1] == close:
                self.note("trailing comma")
            return after, False
        if self.close is not None and self.close.match(text, place):
            self.note("missing brace")
            return place, True
        raise ValueError(f"expecting ',' or {close!r} {self.where(place)}")
