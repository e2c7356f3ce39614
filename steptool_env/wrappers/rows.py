"""``Rows``: one row of features for each action, for policies that score every action by its row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from steptool_env.errors import InvalidArgument
from steptool_env.tasks import Episode
from steptool_env.tools.tool import Tool
from steptool_env.types import ToolCall
from steptool_env.wrappers.catalog import Form, bind, forms_of, takes_any_text
from steptool_env.wrappers.features import (
    CHOICE,
    CODE,
    FAR,
    FEATURES,
    FORM,
    PAIR,
    SHARED,
    VALUE,
    WIDTHS,
    bits,
    closest_left,
    left_of,
    nearness,
    place_of,
    tool_code,
    value_features,
)
from steptool_env.wrappers.memory import Memory, Value, words_of
from steptool_env.wrappers.view import View

__all__ = ["Rows", "key_of"]


class _Plan(NamedTuple):
    """What does not change about a form of a tool."""

    form: Form
    asked: frozenset[str]
    """The words of the argument in focus."""
    verb: str
    words: tuple[str, ...]
    """What the form chooses."""
    takes_text: bool
    code: NDArray[np.float32]


class _Slots(NamedTuple):
    """The values that an action can have in focus now, and what is often asked of each."""

    values: list[Value | None]
    texts: list[str | None]
    """None for what is not text: True, False and empty slots."""
    places: list[int | None]
    """Where the user speaks of it."""
    roles: list[frozenset[str]]


class Rows(View):
    """Action ``a`` is form ``a // values`` of a tool with value ``a % values`` in focus; the observation has a row for each.

    Args:
        forms: Forms in the catalog.
        values: Values in the catalog.
    """

    name: ClassVar[str] = "rows"

    def __init__(self, forms: int, values: int) -> None:
        self.forms, self.values = forms, values
        self.size = forms * values * len(FEATURES)
        self.calls: list[tuple[ToolCall, Value | None] | None] = [None] * (forms * values)
        self._plans: dict[Tool, list[_Plan]] = {}
        self._memory = Memory()

    def start(self) -> None:
        self._memory = Memory()

    @property
    def state(self) -> Any:
        return self._memory

    @state.setter
    def state(self, state: Any) -> None:
        self._memory = state

    def note(self, made: tuple[ToolCall, Value | None] | None, error: str) -> None:
        memory = self._memory
        if made is not None:
            call, focus = made
            text = key_of(call)
            (memory.bad if error else memory.good).add(text)
            if not error:
                memory.tools.add(call.name)
                if focus is not None:
                    memory.used.add(str(focus.content))
                    place = place_of(memory, focus)
                    memory.pointer = memory.pointer if place is None else place
        memory.failed = bool(error)

    def hear(self, text: str) -> None:
        self._memory.hear(text)

    def see(self, text: str) -> None:
        self._memory.see(text)

    def why_not(self, action: int) -> str:
        form, value = divmod(action, self.values)
        return f"form {form} or value {value} does not exist, or they do not fit"

    def look(self, episode: Episode, budget: int) -> NDArray[np.float32]:
        memory = self._memory
        offered = [episode.toolkit["finish"], *(tool for name, tool in episode.toolkit.items() if name != "finish")]
        plans = [self._plans.get(tool) or self._plan(tool) for tool in offered]
        if (count := sum(map(len, plans))) > self.forms:
            raise InvalidArgument(f"the tools of task {episode.task.id!r} have {count} forms, the catalog has {self.forms}: pass forms={count} to gym.make")
        seen = self._slots()
        slots, places = seen.values, seen.places
        latest = [place for value, place in zip(slots, places, strict=True) if value and value.source == memory.results and place is not None]
        nearest = max((place for place in latest if place < memory.pointer), default=None)
        of_values = np.array([value_features(memory, value, place, nearest) for value, place in zip(slots, places, strict=True)], np.float32)
        self.calls = [None] * (self.forms * self.values)
        of_pairs: list[tuple[float, ...]] = [(0.0,) * WIDTHS[0]] * (self.forms * self.values)
        of_forms = np.zeros((self.forms, WIDTHS[1]), np.float32)
        number = 0
        for forms in plans:
            spoken = [memory.spoken(plan.words) for plan in forms]
            closest = [closest_left(spoken, place) for place in places]
            for plan, mentions in zip(forms, spoken, strict=True):
                of_forms[number] = plan.code
                of_forms[number, 1:3] = plan.verb in memory.places, plan.form.tool.name in memory.tools
                of_forms[number, 4 + CODE] = bool(mentions)
                self._bind(plan, number * self.values, seen, mentions, closest, of_pairs)
                number += 1
        rows = np.empty((self.forms, self.values, len(FEATURES)), np.float32)
        pairs = np.array(of_pairs, np.float32).reshape(self.forms, self.values, WIDTHS[0])
        rows[:, :, PAIR] = pairs
        rows[:, :, FORM] = of_forms[:, None]
        rows[:, :, VALUE] = of_values[None]
        rows[:, :, SHARED] = float(memory.failed), min(1.0, len(episode) / budget), min(1.0, memory.results / FAR)
        rows *= pairs[:, :, :1]  # an action that is not a call now has a row of zeros
        return rows.reshape(-1)

    def _slots(self) -> _Slots:
        values = self._memory.recent(self.values)
        texts = [None if value is None or isinstance(value.content, bool) else str(value.content) for value in values]
        places = [None if value is None else place_of(self._memory, value) for value in values]
        return _Slots(values, texts, places, [frozenset() if value is None else frozenset(words_of(value.role)) for value in values])

    def _bind(self, plan: _Plan, start: int, seen: _Slots, mentions: Sequence[int], closest: Sequence[int], of_pairs: list[tuple[float, ...]]) -> None:
        """Set the calls of a form, and what each row says of form and value together."""
        memory, form = self._memory, plan.form
        verbs = memory.places.get(plan.verb, ())
        tried = bool(memory.good or memory.bad)
        for slot, text in enumerate(seen.texts):
            arguments = _of_text(form, text) if plan.takes_text else bind(form, slot, seen.values)
            if arguments is None:
                continue
            call = ToolCall(form.tool.name, arguments)
            self.calls[start + slot] = (call, seen.values[slot] if form.focus else None)
            key, place = key_of(call) if tried else "", seen.places[slot]
            near = nearness(verbs, place) if verbs else 0.0
            left = left_of(mentions, place) if mentions else -1
            choice = (nearness((left,), place), float(left == closest[slot])) if left >= 0 else (0.0, 0.0)
            of_pairs[start + slot] = (1.0, key in memory.good, key in memory.bad, not plan.asked.isdisjoint(seen.roles[slot]), near, *choice)

    def _plan(self, tool: Tool) -> list[_Plan]:
        if len(self._plans) > 10_000:  # a suite that makes new tools for every task must not fill the memory
            self._plans.clear()
        verb = (words_of(tool.name) or [""])[0]
        plans = []
        for form in forms_of(tool):
            chosen = repr((form.fixed, form.further)) if form.fixed or form.further else ""
            choice = [1.0, 0.0, *bits(chosen, CHOICE)] if chosen else [0.0] * (2 + CHOICE)
            code = np.array([tool.name == "finish", 0.0, 0.0, *tool_code(tool.name), *choice], np.float32)
            plans.append(_Plan(form, frozenset(words_of(form.focus)), verb, form.words, takes_any_text(form), code))
        self._plans[tool] = plans
        return plans


def _of_text(form: Form, text: str | None) -> dict[str, Any] | None:
    """Do what ``bind`` does for forms that take any text: they are the most."""
    return None if text is None else {form.focus: text, **dict(form.fixed)}


def key_of(call: ToolCall) -> str:
    """Return the same text for equal calls of one catalog, which writes them in one way."""
    return repr((call.name, call.arguments))
