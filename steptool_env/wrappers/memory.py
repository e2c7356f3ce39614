"""``Memory``: the values that an episode has shown, each with its role, and where the instruction speaks of them.

It is what a reader would note down, and it knows nothing of any suite: a role is the word before a value in the
instruction, or the key under which a result holds it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["Memory", "Value", "scalars", "words_of"]

_TOKEN = re.compile(r"\"([^\"]+)\"|'([^']+)'|(\S+)")
_EDGES = ".,;:!?()[]{}\"'"
_MOST = 256
"""Values kept of one result."""


class Value(NamedTuple):
    """Something that a call can pass on."""

    content: str | int | float | bool
    role: str
    source: int
    """0 for what the user said, n for the n-th result."""
    order: int
    """Its place in the source."""


@dataclass
class Memory:
    """What an episode has shown so far. Plain data: it can be copied and pickled."""

    words: list[str] = field(default_factory=list)
    """What the user said, in lower case, without punctuation."""
    places: dict[str, list[int]] = field(default_factory=dict)
    """Word -> where it stands."""
    values: dict[tuple[str, str], Value] = field(default_factory=dict)
    """(role, content as JSON) -> the latest sight of the value."""
    results: int = 0
    pointer: int = 0
    """Where the user speaks of the value that the last good call passed on; the end of the text before any."""
    good: set[str] = field(default_factory=set)
    """Calls that succeeded, as JSON."""
    bad: set[str] = field(default_factory=set)
    """Calls that failed, as JSON."""
    tools: set[str] = field(default_factory=set)
    """Tools that were called with success."""
    used: set[str] = field(default_factory=set)
    """Contents, as text, that were passed on with success."""
    failed: bool = False
    """Whether the last call failed."""

    def hear(self, text: str) -> None:
        """Take in a message of the user: words with a digit and quoted text are values."""
        before = ""
        for count, match in enumerate(_TOKEN.finditer(text)):
            quoted = match[1] or match[2]
            word = quoted or match[3].strip(_EDGES)
            if word and (quoted or any(map(str.isdigit, word))):
                self._add(Value(word, before, 0, count))
            before = word.lower()
            for part in words_of(word) if not quoted else [before]:
                self.places.setdefault(part, []).append(len(self.words))
            self.words.append(before)
        self.pointer = len(self.words)

    def see(self, text: str) -> None:
        """Take in a good result: every scalar of its JSON with its key, or the words with a digit of a plain text."""
        self.results += 1
        try:
            found = list(_first((role, value) for role, value in scalars(json.loads(text)) if value is not None))
        except (ValueError, RecursionError):
            tokens = [word.strip(_EDGES) for word in text[:20_000].split()]
            pairs = zip(["", *tokens], tokens, strict=False)
            found = list(_first((before.lower(), word) for before, word in pairs if any(map(str.isdigit, word))))
        for order, (role, content) in enumerate(found):
            self._add(Value(content, role, self.results, order))

    def place(self, role: str) -> int | None:
        """Return where the user speaks of the role: the last place left of the pointer, else the first one; None if nowhere."""
        places = self.spoken(words_of(role))
        left = [place for place in places if place < self.pointer]
        return left[-1] if left else places[0] if places else None

    def spoken(self, words: Iterable[str]) -> list[int]:
        """Return where the user says one of the words, from left to right."""
        return sorted({place for word in words for place in self.places.get(word, ())})

    def recent(self, count: int, pinned: int = 4) -> list[Value | None]:
        """Return ``count`` slots: the latest result first, in reading order, then older ones; the user's values from the end."""
        from_user = [value for value in self.values.values() if value.source == 0][-pinned:]
        shown = sorted((value for value in self.values.values() if value.source), key=lambda value: (-value.source, value.order))
        slots: list[Value | None] = [*shown[: count - len(from_user)]]
        return [*slots, *[None] * (count - len(from_user) - len(slots)), *from_user]

    def _add(self, value: Value) -> None:
        key = (value.role, json.dumps(value.content))
        self.values.pop(key, None)
        self.values[key] = value


def words_of(name: str) -> list[str]:
    """Return the words of a name in lower case: ``order_id`` -> order, id."""
    return [word for word in re.split(r"[\W_]+", name.lower()) if word]


def scalars(value: Any, role: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the numbers, short texts and nulls in a JSON value in order, each with the key of the object it stands in, or ``role``."""
    if depth > 32:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            yield from scalars(item, str(key), depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from scalars(item, role, depth + 1)
    elif value is None or len(str(value)) <= 200:
        yield role, value


def _first(pairs: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    return (pair for _, pair in zip(range(_MOST), pairs, strict=False))
