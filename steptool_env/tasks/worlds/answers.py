"""``Answer``: what has to be said at the end, and when two ways of saying it are the same."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

__all__ = ["Answer"]

_SEPARATORS = re.compile(r"\s*[,;\n]\s*(?:and\s+)?|\s+and\s+")


@dataclass(frozen=True, slots=True)
class Answer:
    """One or more values.

    Case and outer spaces do not matter, nor does the form of a number where one is asked for. Several values may be separated by
    commas, semicolons, lines or "and", or be a JSON list.
    """

    parts: tuple[str, ...]
    ordered: bool = True
    """Whether the order of the values matters."""
    give_up: bool = False
    """Whether the task cannot be solved, and has to be declined with this answer."""

    @property
    def text(self) -> str:
        """The answer as the oracle gives it."""
        return ", ".join(self.parts)

    def accepts(self, given: str) -> bool:
        """Return whether this was said."""
        if len(self.parts) == 1 and self.ordered:
            return _same(given, self.parts[0])
        found = _split(given)
        if len(found) != len(self.parts):
            return False
        if not self.ordered:
            return sorted(map(_plain, found)) == sorted(map(_plain, self.parts))
        return all(map(_same, found, self.parts))


def _plain(text: str) -> str:
    return text.strip().casefold()


def _same(given: str, expected: str) -> bool:
    if _plain(given) == _plain(expected):
        return True
    try:
        return len(given) < 40 and Decimal(given.strip()) == Decimal(expected)
    except InvalidOperation:
        return False


def _split(given: str) -> Sequence[str]:
    text = given.strip()
    if text.startswith("["):
        try:
            listed = json.loads(text)
        except (ValueError, RecursionError):
            listed = None
        if isinstance(listed, list):
            return [str(item) for item in listed]
    return [part for part in _SEPARATORS.split(text) if part]
