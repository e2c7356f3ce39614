"""``Compact``: some hundred numbers in which every position means the same in every task, for networks that know nothing of the form.

An action is a tool and a value to pass on, or an answer. Values stand in columns by where they come from, and within their
source by where the user speaks of them; tools stand in the order in which the user speaks of them, from the end. So what a
network learns of a number in one task holds in the next.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from steptool_env.errors import InvalidArgument
from steptool_env.tasks import Episode
from steptool_env.tools.tool import Tool
from steptool_env.types import ToolCall
from steptool_env.wrappers.asked import FUNCTION_WORDS, Asked, Plan, bind_again, bind_asked, what_speaks
from steptool_env.wrappers.composed import ANSWERS, answers
from steptool_env.wrappers.features import CODE, FAR, bits, tool_code
from steptool_env.wrappers.notes import Item, Notes
from steptool_env.wrappers.rows import key_of
from steptool_env.wrappers.view import View

__all__ = ["COLUMNS", "Compact", "bag", "compact_features", "prefix_code", "tools_of"]

LATEST, SAID, EARLIER = 4, 4, 3
COLUMNS = (
    *(f"latest result {number}" for number in range(LATEST)),
    *(f"user {number}" for number in range(SAID)),
    "passed on last",
    *(f"earlier result {number}" for number in range(EARLIER)),
)
"""Where the values stand. Of the latest result first what leads on from what was passed on, then what else the user names, then
the rest in reading order; of the user's values the last one first; of earlier results, what the user names, the latest first."""

_VALUES, _ENDS = len(COLUMNS), len(COLUMNS) + len(ANSWERS)
_WAYS = _VALUES + 2  # of calling a tool: with each value, with none, and the next page
_SPOKEN = LATEST + SAID  # columns whose values are compared with the names of arguments
_PREFIX, _STATES, _WORDS = 8, 32, 64
_ERRORS = ("malformed", "bad_arguments", "rejected", "transient", "tool_failed")
_OF_VALUE = (
    *("exists", "empty", "passed on before", "leads on", "named", "near", "identifier", "number", "other text"),
    *(f"prefix {bit}" for bit in range(_PREFIX)),
)
_OF_TOOL = ("exists", "verb named", "object named", "used", *(f"code {bit}" for bit in range(CODE)))
_SHARED = ("last call failed", "steps used", "results", "more pages", *(f"last error: {kind}" for kind in _ERRORS))


def compact_features(tools: int) -> tuple[str, ...]:
    """Return what each number of the compact observation means, for so many tools beside ``finish``.

    Of a call: 1 if it can be made, .5 if it was made with success, -1 if it failed, 0 if it is no call. Of a tool and a value, what
    speaks for them: ``role``, 1 if the value's role is in the name of the argument, less if the user names them near each other or
    the identifier begins like the tool's object; ``leads``, 1 if the tool's text has what the user says right before the value.
    """
    ways = (*COLUMNS, "no value", "next page")
    return (
        *(f"{what}: {feature}" for what in COLUMNS for feature in _OF_VALUE),
        *(f"{what}: {feature}" for what in ANSWERS for feature in ("exists", "values")),
        *(f"tool {tool}: {feature}" for tool in range(tools) for feature in _OF_TOOL),
        *(f"tool {tool}, {way}: call" for tool in range(tools) for way in ways),
        *(f"tool {tool}, {what}: {plane}" for tool in range(tools) for what in COLUMNS[:_SPOKEN] for plane in ("role", "leads")),
        *(f"latest result: state {bucket}" for bucket in range(_STATES)),
        *(f"the user's words: {bucket}" for bucket in range(_WORDS)),
        *_SHARED,
    )


def tools_of(actions: int) -> int | None:
    """Return for how many tools beside ``finish`` a compact form has so many actions; None if for none."""
    tools, rest = divmod(actions - 2 * _ENDS, _WAYS)
    return tools if tools >= 0 and not rest else None


class Compact(View):
    """Actions and observation with stable positions.

    Action ``a`` (``Discrete(2 * 15 + 14 * tools)``): 0 to 14 finish with the value of a column, or with a composed answer
    (``composed.py``); 15 to 29 do so and give up; then come 14 for each tool: with the value of each column, with none, and the
    next page of what was listed last. Arguments beside the value are filled from what the user names, see ``asked.py``.

    Args:
        tools: Tools beside ``finish``, at most.
    """

    name: ClassVar[str] = "compact"

    def __init__(self, tools: int) -> None:
        self.tools = tools
        self.features = compact_features(tools)
        self.size = len(self.features)
        self.calls: list[tuple[ToolCall, Item | None] | None] = [None] * (2 * _ENDS + tools * _WAYS)
        self.start()

    def start(self) -> None:
        self._notes = Notes()
        self._offer: tuple[tuple[Tool, ...], int] = ((), 0)
        self._asked: list[Asked] = []
        self._tools: list[float] = []
        self._words: list[float] = []
        self._body: NDArray[np.float32] | None = None

    @property
    def state(self) -> Any:
        return self._notes

    @state.setter
    def state(self, state: Any) -> None:
        self.start()
        self._notes = state

    def note(self, made: tuple[ToolCall, Item | None] | None, error: str) -> None:
        if made is None:
            self._notes.error = error
        else:
            self._body = None
            self._notes.pass_on(*made, key_of(made[0]), error)

    def hear(self, text: str) -> None:
        self._body = None
        self._notes.hear(text)

    def see(self, text: str) -> None:
        self._body = None
        self._notes.see(text)

    def why_not(self, action: int) -> str:
        if action < 2 * _ENDS:
            return f"there is no answer in {(*COLUMNS, *ANSWERS)[action % _ENDS]!r}"
        tool, way = divmod(action - 2 * _ENDS, _WAYS)
        return f"there is no tool {tool}, or it takes nothing of {(*COLUMNS, 'no value', 'next page')[way]!r}"

    # ---------------------------------------------------------------- the calls
    def look(self, episode: Episode, budget: int) -> NDArray[np.float32]:
        notes = self._notes
        if self._body is None:  # else the last action was no call: nothing has changed but what follows below
            self._body = np.array(self._read(episode), np.float32)
        shared = (bool(notes.error), min(1.0, len(episode) / budget), min(1.0, notes.results / FAR), bool(notes.listing and notes.listing.more))
        return np.concatenate([self._body, np.array([*shared, *(notes.error == kind for kind in _ERRORS)], np.float32)])

    def _read(self, episode: Episode) -> list[float]:
        """Set the calls and return all numbers but the shared ones."""
        self._read_offer(episode)
        items, composed = self._items(), answers(self._notes)
        self.calls = [None] * len(self.calls)
        self._ends(items, composed)
        made = self._bind(items)
        numbers: list[float] = []
        for item in items:
            numbers += self._of_value(item)
        for answer in composed:
            numbers += (1.0, min(1.0, answer[1] / 4)) if answer else (0.0, 0.0)
        return numbers + self._of_tools() + made + bag(self._notes.facts, _STATES, marks=2) + self._words

    def _items(self) -> list[Item | None]:
        notes = self._notes
        earlier = sorted(notes.earlier, key=lambda item: str(item.content) in notes.used)
        return [*_filled(notes.latest, LATEST), *_filled(notes.said, SAID), notes.passed, *_filled(earlier, EARLIER)]

    def _ends(self, items: Sequence[Item | None], composed: Sequence[tuple[str, int] | None]) -> None:
        texts = [None if item is None or item.content is None else str(item.content) for item in items]
        texts += [None if answer is None else answer[0] for answer in composed]
        for column, text in enumerate(texts):
            if text is not None:
                item = items[column] if column < _VALUES else None
                self.calls[column] = (ToolCall("finish", {"answer": text}), item)
                self.calls[_ENDS + column] = (ToolCall("finish", {"answer": text, "give_up": True}), item)

    def _bind(self, items: Sequence[Item | None]) -> list[float]:
        """Set the calls of all tools; return what became of each, and then what speaks for each tool and value."""
        notes = self._notes
        made, match = [0.0] * (self.tools * _WAYS), [0.0] * (self.tools * _SPOKEN * 2)
        before = self._words_before(items[:_SPOKEN])
        filled = [(way, item) for way, item in enumerate(items) if item is not None and item.content is not None]
        for number, asked in enumerate(self._asked):
            plan, first, tried = asked.plan, number * _WAYS, notes.tried.get(asked.plan.tool.name, {})
            speaks = what_speaks(asked, items)
            bound: list[tuple[int, Item | None, tuple[dict[str, Any], float] | None]]
            bound = [(way, item, bind_asked(asked, way, items, speaks, notes.used)) for way, item in filled]
            if not asked.simple:
                bound.append((_VALUES, None, bind_asked(asked, None, items, speaks, notes.used)))
            if notes.numbers and (again := bind_again(asked, notes)) is not None:
                bound.append((_VALUES + 1, None, (again, 0.0)))
            for way, item, arguments in bound:
                if arguments is None:
                    continue
                call = ToolCall(plan.tool.name, arguments[0])
                self.calls[2 * _ENDS + first + way] = (call, item)
                good = tried.get(key_of(call)) if tried else None
                made[first + way] = 1.0 if good is None else 0.5 if good else -1.0
                if item is not None and way < _SPOKEN:
                    place, score = (number * _SPOKEN + way) * 2, arguments[1]
                    match[place] = 0.5 if score < 0.5 and _begins_like(str(item.content), plan.words[-1:]) else score
                    match[place + 1] = float(before[way] in plan.text)
        return made + match

    # ---------------------------------------------------------------- the tools
    def _read_offer(self, episode: Episode) -> None:
        """Order the tools by where the user speaks of them, from the end; those that are fully named first."""
        notes = self._notes
        offer = (tuple(tool for name, tool in episode.toolkit.items() if name != "finish"), len(notes.memory.words))
        if offer == self._offer:
            return
        if len(offer[0]) > self.tools:
            needed = len(offer[0]) + 2
            raise InvalidArgument(f"task {episode.task.id!r} offers {len(offer[0])} tools, the catalog has {self.tools}: pass forms={needed} to gym.make")

        def order(plan: Plan) -> tuple[int, float]:
            named = [max(places) for word in plan.words if (places := notes.memory.places.get(word))]
            return -max(named, default=-1), -len(named) / len(plan.words) if plan.words else 0.0

        plans = sorted(map(_plan, offer[0]), key=order)
        self._offer, self._asked = offer, [Asked.of(plan, notes) for plan in plans]
        self._tools = []
        for plan in plans:
            verb, objects = plan.words[:1], plan.words[1:]
            self._tools += [1.0, float(bool(notes.spoken(verb))), float(bool(notes.spoken(objects))), 0.0, *_code(plan.tool.name)]
        self._tools += [0.0] * ((self.tools - len(plans)) * len(_OF_TOOL))
        self._words = bag([word for word in notes.memory.places if word.isalpha() and word not in FUNCTION_WORDS], _WORDS)

    def _of_tools(self) -> list[float]:
        numbers = self._tools.copy()
        for number, asked in enumerate(self._asked):
            numbers[number * len(_OF_TOOL) + _OF_TOOL.index("used")] = float(asked.plan.tool.name in self._notes.tools)
        return numbers

    # ---------------------------------------------------------------- the values
    def _of_value(self, item: Item | None) -> Sequence[float]:
        if item is None:
            return (0.0,) * len(_OF_VALUE)
        text = "" if item.content is None else str(item.content)
        letters, digits = any(map(str.isalpha, text)), any(map(str.isdigit, text))
        identifier = letters and digits and " " not in text
        return (
            *(1.0, float(item.content is None), float(text in self._notes.used), float(item.ahead), float(item.place >= 0)),
            *(max(0.0, 1.0 - item.distance / FAR) if item.place >= 0 else 0.0, float(identifier), float(digits and not letters), float(not digits)),
            *(_prefix(text) if identifier else (0.0,) * _PREFIX),
        )

    def _words_before(self, items: Sequence[Item | None]) -> list[str]:
        """Return for each value the last word before its place that the name or description of a tool has."""
        known = _known(tuple([asked.plan.text for asked in self._asked]))
        words = self._notes.memory.words
        found = []
        for item in items:
            left = range(item.place - 1, -1, -1) if item is not None else ()
            found.append(next((words[place] for place in left if words[place] in known and words[place] not in item.words), ""))  # type: ignore[union-attr]
        return found

@functools.lru_cache(maxsize=10_000)
def _plan(tool: Tool) -> Plan:
    return Plan.of(tool)


@functools.lru_cache(maxsize=10_000)
def _known(texts: tuple[frozenset[str], ...]) -> frozenset[str]:
    return frozenset().union(*texts) - FUNCTION_WORDS


@functools.lru_cache(maxsize=10_000)
def _code(name: str) -> tuple[float, ...]:
    return tuple(map(float, tool_code(name)))


def _prefix(identifier: str) -> tuple[float, ...]:
    letters = identifier[: next((place for place, letter in enumerate(identifier) if not letter.isalpha()), len(identifier))]
    return prefix_code(letters[:8].lower())


@functools.lru_cache(maxsize=10_000)
def prefix_code(letters: str) -> tuple[float, ...]:
    return tuple(map(float, bits(letters, _PREFIX)))


@functools.lru_cache(maxsize=10_000)
def _begins_like(identifier: str, objects: tuple[str, ...]) -> bool:
    """Return whether the letters of an identifier begin a word and occur in it in this order, such as ``BK12`` and ``book``."""
    letters = "".join(letter for letter in identifier[:8].lower() if letter.isalpha())
    if not letters or not any(map(str.isdigit, identifier)):
        return False
    for word in objects:
        rest = iter(word)
        if word[0] == letters[0] and all(letter in rest for letter in letters):
            return True
    return False


def bag(texts: Iterable[str], size: int, marks: int = 1) -> list[float]:
    """Return ``size`` numbers, 1 in the places of any of the texts and else 0; each text has so many places, from a hash."""
    numbers = [0.0] * size
    for text in texts:
        for place in _hashed(text)[:marks]:
            numbers[place % size] = 1.0
    return numbers


@functools.lru_cache(maxsize=10_000)
def _hashed(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=4).digest()


def _filled(items: Sequence[Item], count: int) -> list[Item | None]:
    return [*items[:count], *[None] * (count - len(items))]
