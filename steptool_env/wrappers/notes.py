"""``Notes``: what a reader of the transcript would note down for the compact observation, ordered by what the user asks for.

An instruction such as *the phone of the store of drug J35* is followed from right to left. Every result is read from the place
at which the user speaks of the value that the call passed on, its anchor; the field that the user names last before the anchor
leads on. It knows nothing of any suite, and nothing that a policy could not read in task and transcript.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from steptool_env.types import ToolCall
from steptool_env.wrappers.memory import Memory, scalars, words_of

__all__ = ["Item", "Listing", "Notes"]

_MOST, _ANCHORS = 64, 4
"""Fields kept of one result, and places from which it is read."""


class Item(NamedTuple):
    """A value, and where the user speaks of it."""

    content: str | int | float | bool | None
    """None: the result has this field, but it is empty."""
    role: str
    words: frozenset[str]
    """Of the role."""
    source: int
    """0 for what the user said, n for the n-th result."""
    place: int
    """Where the user speaks of it; -1 if nowhere."""
    ahead: bool
    """Whether that is before the anchor of the result, so that it may lead on."""
    distance: int
    """Words between there and the anchor; 0 for what the user said."""


class Listing(NamedTuple):
    """A list that was read, perhaps over several pages."""

    key: str
    entries: tuple[str, ...]
    more: bool
    """Whether the last page that was read says that there are more."""


@dataclass
class Notes:
    """What an episode has shown so far. Plain data: it can be copied and pickled."""

    memory: Memory = field(default_factory=Memory)
    """The user's words, and where they stand."""
    said: list[Item] = field(default_factory=list)
    """The user's values, the last one first."""
    latest: list[Item] = field(default_factory=list)
    """The latest result: what leads on first, then what else the user names, then the rest in reading order; what was passed on last."""
    earlier: list[Item] = field(default_factory=list)
    """What the user names in earlier results, the latest first."""
    leads: list[Item] = field(default_factory=list)
    """The field of every result that leads on."""
    passed: Item | None = None
    """The value that the last good call passed on."""
    listing: Listing | None = None
    numbers: dict[str, int] = field(default_factory=dict)
    """Whole numbers of the latest result by key; an argument of the same name can be one more."""
    facts: list[str] = field(default_factory=list)
    """States in the latest result, as ``role=word``."""
    used: set[str] = field(default_factory=set)
    """Contents, as text, that good calls have passed on."""
    tools: set[str] = field(default_factory=set)
    """Tools that were called with success."""
    tried: dict[str, dict[str, bool]] = field(default_factory=dict)
    """Tool -> call, as text -> whether it succeeded the last time."""
    last: ToolCall | None = None
    """The last good call."""
    error: str = ""
    """The kind of error of the last call."""
    results: int = 0
    anchors: tuple[int, ...] = ()
    """Where the user speaks of what the last good call passed on; the end of the text before any."""
    _said_places: list[int] = field(default_factory=list)

    def hear(self, text: str) -> None:
        """Take in a message of the user. What was found for an earlier one does not answer it."""
        self.memory.hear(text)
        self.leads, self.listing, self.passed = [], None, None
        self.used.clear()
        self.anchors = (len(self.memory.words),)
        spoken = [value for value in self.memory.values.values() if value.source == 0]
        places = [max(self._places_of(str(value.content)), default=-1) for value in spoken]
        items = [Item(value.content, value.role, frozenset(words_of(value.role)), 0, place, False, 0) for value, place in zip(spoken, places, strict=True)]
        self.said = sorted(items, key=lambda item: -item.place)
        self._said_places = sorted(item.place for item in items)

    def pass_on(self, call: ToolCall, item: Item | None, key: str, error: str) -> None:
        """Take in that a call was made, with this value in focus, and how it ended; before ``see``."""
        self.error = error
        self.tried.setdefault(call.name, {})[key] = not error
        if error:
            return
        self.tools.add(call.name)
        self.used.update(str(value) for value in call.arguments.values())
        self.last = call
        if item is not None:
            self.passed = item
            places = (item.place,) if item.source and item.place >= 0 else self._places_of(str(item.content))
            self.anchors = tuple(place for place in places if place >= 0)[-_ANCHORS:] or self.anchors

    def see(self, text: str) -> None:
        """Take in a good result: every scalar of its JSON with its key, or the words with a digit of a plain text."""
        self.results += 1
        self.earlier = [item for item in self.latest if item.place >= 0 and item.content is not None] + self.earlier[: _MOST - 1]
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            tokens = [word.strip(".,;:!?()[]{}\"'") for word in text[:20_000].split()]
            found = None
            fields = [(before.lower(), word) for before, word in zip(["", *tokens], tokens, strict=False) if any(map(str.isdigit, word))]
        else:
            fields = list(scalars(found))
        items = [self._item(role, content) for role, content in fields[:_MOST]]
        self.facts = [f"{item.role}={item.content}" for item in items if isinstance(item.content, str) and item.content.isalpha() and item.content.islower()]
        self.latest = sorted(items, key=self._order)
        self._list(found)
        self._lead()

    def spoken(self, words: Iterable[str]) -> list[int]:
        """Return where the user says one of the words, from left to right."""
        return self.memory.spoken(words)

    # ---------------------------------------------------------------- reading a result
    def _places_of(self, content: str) -> tuple[int, ...]:
        text, places = content.lower(), self.memory.places
        return tuple(places.get(text, ()) or places.get((words_of(text) or [""])[0], ()))

    def _item(self, role: str, content: Any) -> Item:
        """Return a field with the place that fits it best: the nearest one ahead of an anchor, with no other value of the user between."""
        words = frozenset(words_of(role))
        spoken = self.spoken(words)
        if not spoken:
            return Item(content, role, words, self.results, -1, False, 0)
        spoken = spoken[-_MOST:]
        ahead = [(anchor - place, place) for anchor in self.anchors for place in spoken if place < anchor and self._next_said(place) >= anchor]
        if ahead:
            distance, place = min(ahead)
            return Item(content, role, words, self.results, place, True, distance)
        anchor = self.anchors[-1] if self.anchors else 0
        place = min(spoken, key=lambda place: (place < anchor, abs(place - anchor)))
        return Item(content, role, words, self.results, place, False, abs(place - anchor))

    def _next_said(self, place: int) -> int:
        """Return where the next value of the user stands after a place; the end of the text if there is none."""
        number = bisect.bisect_right(self._said_places, place)
        return self._said_places[number] if number < len(self._said_places) else len(self.memory.words)

    def _order(self, item: Item) -> tuple[bool, int, int]:
        kind = 2 if item.place < 0 else 0 if item.ahead else 1
        return str(item.content) in self.used, kind, item.distance

    def _list(self, found: Any) -> None:
        self.numbers = {}
        if not isinstance(found, dict):
            return
        self.numbers = {key: value for key, value in found.items() if isinstance(value, int) and not isinstance(value, bool)}
        lists = [(key, value) for key, value in found.items() if isinstance(value, list) and all(isinstance(entry, str | int | float) for entry in value)]
        if len(lists) != 1:
            return
        key, entries = lists[0]
        before = self.listing.entries if self.listing and self.listing.key == key and self.numbers.get("page", 1) > 1 else ()
        more = self.numbers.get("page", 1) < self.numbers.get("pages", 1)
        self.listing = Listing(key, (*before, *map(str, entries))[: 4 * _MOST], more)

    def _lead(self) -> None:
        """Note, for every anchor, the field that leads on from there."""
        ahead = [item for item in self.latest if item.ahead and str(item.content) not in self.used]
        for anchor in self.anchors:
            near = [item for item in ahead if item.place + item.distance == anchor]
            if near:
                self.leads.append(min(near, key=lambda item: item.distance))
        if not ahead and self.latest and self.latest[0].place >= 0:
            self.leads.append(self.latest[0])
