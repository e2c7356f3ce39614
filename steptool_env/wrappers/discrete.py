"""``StepToolDiscrete-v0``: the action is a number from a fixed catalog of calls, the observation a vector of features.

Made for algorithms that know nothing of text: stable-baselines3, RLlib, single-file implementations.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from steptool_env.errors import InvalidArgument
from steptool_env.foreign import is_a, kind_of
from steptool_env.rewards import RewardShaper
from steptool_env.tasks import TaskSuite
from steptool_env.tools.tool import Tool
from steptool_env.types import Malformed, Observation, ToolCall
from steptool_env.wrappers.base import OtherForm
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

__all__ = ["FEATURES", "StepToolDiscreteEnv", "tool_code"]

_SMALL, _SCANNED = 1000, 64


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


class StepToolDiscreteEnv(OtherForm[NDArray[np.float32], np.int64]):
    """Multi-step tool use as numbers.

    Action ``a`` (``Discrete(forms * values)``):
        The call of form ``a // values`` with value ``a % values`` in focus. A form is a tool with the choices among its
        other arguments made, see ``catalog.forms_of``: first come those of ``finish`` (form 0 is plain ``finish``), then
        those of the other tools in the order of the offer. Values are ordered by recency: 0 is the first one of the latest
        result; what the user said counts from the end. Further arguments are filled by role, see ``catalog.bind``. An
        action that is not a call now (``action_masks()`` is False) is answered by an error, like every mistake.
    Observation (``Box(-1, 1, (forms * values * 54,), float32)``):
        One row of 54 features for each action; ``rows`` gives it that shape, ``FEATURES`` names the columns. It holds what
        an optimal policy needs on tasks that the catalog can solve: which roles and choices the user speaks of and in
        which order, what has been tried, and the kinds of tools, choices and values.
    Reward and end: as in ``StepToolEnv``. Info has ``action_mask`` as well, int8, for ``action_space.sample(mask)``.

    Args:
        suite: Name of a suite, or a ``TaskSuite``.
        shaper: Name of a shaper, or a callable.
        forms: Forms in the catalog; by default, as many as the tools of a task of the suite can have at most (in suites of
            more than 1000 tasks, judged by some 64 of them), and a tenth more for suites with several turns, which may
            bring further tools.
        values: Values in the catalog, at least 8.
        max_steps: Overrides the step budget of every task.
        render_mode: As in ``StepToolEnv``.
        suite_options: Passed to the suite when it is given by name.
    """

    action_space: spaces.Discrete
    observation_space: spaces.Box  # type: ignore[assignment]  # its dtype is float32
    forms: int
    values: int

    def __init__(
        self,
        suite: str | TaskSuite = "worlds",
        shaper: str | RewardShaper = "steptool",
        *,
        forms: int | None = None,
        values: int = 16,
        max_steps: int | None = None,
        render_mode: str | None = None,
        **suite_options: Any,
    ) -> None:
        super().__init__(suite, shaper, max_steps=max_steps, render_mode=render_mode, **suite_options)
        for name, number, least in (("forms", _most_forms(self.suite) if forms is None else forms, 1), ("values", values, 8)):
            if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
                raise InvalidArgument(f"{name} must be an integer of at least {least}, got {number!r}")
            setattr(self, name, int(number))
        self.action_space = spaces.Discrete(self.forms * self.values)
        self.observation_space = spaces.Box(-1.0, 1.0, (self.forms * self.values * len(FEATURES),), np.float32)
        self._memory = Memory()
        self._read_count = 0
        self._calls: list[tuple[ToolCall, Value | None] | None] = [None] * (self.forms * self.values)
        self._plans: dict[Tool, list[_Plan]] = {}
        self._pending: tuple[ToolCall, Value | None] | None = None

    # ---------------------------------------------------------------- what learners ask for
    def action_masks(self) -> NDArray[np.bool_]:
        """Return which actions are calls now, shape ``(n,)``; the name is the one that sb3-contrib looks for."""
        return np.array([entry is not None for entry in self._calls], dtype=np.bool_)

    def rows(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return observations ``(..., n * 54)`` as ``(..., n, 54)``: one row of features for each action."""
        return observation.reshape(*observation.shape[:-1], self.forms * self.values, len(FEATURES))

    def call(self, action: int) -> ToolCall | None:
        """Return the call that an action makes now, or None if it makes none."""
        entry = self._calls[action]
        return entry[0] if entry is not None else None

    def index(self, call: ToolCall) -> int | None:
        """Return the action that makes this call now, or None if the catalog has none."""
        return next((number for number, entry in enumerate(self._calls) if entry is not None and entry[0] == call), None)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode; arguments as in ``StepToolEnv.reset``."""
        self._memory, self._read_count = Memory(), 0
        self._pending = None
        return super().reset(seed=seed, options=options)

    # ---------------------------------------------------------------- in and out
    def _convert_action(self, action: Any) -> Any:
        self._pending = None
        try:
            number = operator.index(action.item() if is_a(action, np.ndarray) and action.size == 1 else action)
        except KeyboardInterrupt:
            raise
        except BaseException:  # TypeError, and whatever a foreign number raises
            return Malformed(f"<{kind_of(action)}>", f"expected an action from 0 to {len(self._calls) - 1}, got {kind_of(action)}")
        if not 0 <= number < len(self._calls):
            got = str(number) if abs(number) < 10**18 else "a huge number"  # str() refuses thousands of digits
            return Malformed(got, f"expected an action from 0 to {len(self._calls) - 1}, got {got}")
        self._pending = self._calls[number]
        if self._pending is None:
            form, value = divmod(number, self.values)
            why = f"form {form} or value {value} does not exist, or they do not fit"
            return Malformed(str(number), f"action {number} is no call now: {why}; see action_masks()")
        return self._pending[0]

    def _convert_observation(self, observation: Observation, info: dict[str, Any]) -> NDArray[np.float32]:
        if info["tool_error"] != "over_budget":
            self._note(observation, info["tool_error"])
        self._pending = None
        features = self._features(observation)
        info["action_mask"] = self.action_masks().astype(np.int8)
        return features

    def _note(self, observation: Observation, error: str) -> None:
        memory = self._memory
        if self._pending is not None:
            call, focus = self._pending
            text = _key(call)
            (memory.bad if error else memory.good).add(text)
            if not error:
                memory.tools.add(call.name)
                if focus is not None:
                    memory.used.add(str(focus.content))
                    place = place_of(memory, focus)
                    memory.pointer = memory.pointer if place is None else place
        memory.failed = bool(error)
        messages = observation["messages"]
        for role, content in messages[self._read_count :]:
            if role == "user":
                memory.hear(content)
            elif role == "tool" and not error:
                memory.see(content)
        self._read_count = len(messages)

    def _features(self, observation: Observation) -> NDArray[np.float32]:
        """Set the calls of all actions and return their rows."""
        memory, core = self._memory, self.core
        episode = core._running()
        offered = [episode.toolkit["finish"], *(tool for name, tool in episode.toolkit.items() if name != "finish")]
        plans = [self._plans.get(tool) or self._plan(tool) for tool in offered]
        if (count := sum(map(len, plans))) > self.forms:
            raise InvalidArgument(f"the tools of task {core.task.id!r} have {count} forms, the catalog has {self.forms}: pass forms={count} to gym.make")
        seen = self._slots()
        slots, places = seen.values, seen.places
        latest = [place for value, place in zip(slots, places, strict=True) if value and value.source == memory.results and place is not None]
        nearest = max((place for place in latest if place < memory.pointer), default=None)
        of_values = np.array([value_features(memory, value, place, nearest) for value, place in zip(slots, places, strict=True)], np.float32)
        self._calls = [None] * (self.forms * self.values)
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
        budget = self.max_steps or core.task.max_steps
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
            self._calls[start + slot] = (call, seen.values[slot] if form.focus else None)
            key, place = _key(call) if tried else "", seen.places[slot]
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

    # ---------------------------------------------------------------- copies
    def _form_state(self) -> Any:
        return self._memory, self._read_count

    def _restore_form_state(self, memory: Any) -> None:
        self._memory, self._read_count = copy.deepcopy(memory)
        self._pending = None
        episode = self.core._running()
        self._features({"messages": episode.messages, "tools": episode.toolkit.schemas})

    def _fresh(self) -> Self:
        return type(self)(self.suite, self.shaper, forms=self.forms, values=self.values, max_steps=self.max_steps, render_mode=self.render_mode)


def _most_forms(suite: TaskSuite) -> int:
    """Return how many forms the tools of one task can have: the most tools that are offered together, those with the most forms."""
    count = len(suite)
    scanned = [suite[index] for index in (range(count) if count <= _SMALL else range(0, count, count // _SCANNED))]
    forms: dict[str, int] = {}
    for task in scanned:
        if not set(task.tools) <= forms.keys():
            for name, tool in suite.toolkit(task).items():
                forms[name] = max(forms.get(name, 0), len(forms_of(tool)))
    finish = forms.pop("finish")
    together = max(len({*task.tools} - {"finish"}) for task in scanned)
    most = finish + sum(sorted(forms.values(), reverse=True)[:together])
    if suite.has_turns:  # a later turn may offer more than the first one
        most += max(1, most // 10)
    return most


def _of_text(form: Form, text: str | None) -> dict[str, Any] | None:
    """Do what ``bind`` does for forms that take any text: they are the most."""
    return None if text is None else {form.focus: text, **dict(form.fixed)}


def _key(call: ToolCall) -> str:
    return repr((call.name, call.arguments))  # the catalog writes equal calls in one way
