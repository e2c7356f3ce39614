"""``StepToolDiscrete-v0``: the action is a number from a fixed catalogue of calls, the observation a vector of features.

Made for algorithms that know nothing of text: stable-baselines3, RLlib, single-file implementations.
"""

from __future__ import annotations

import copy
import hashlib
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from steptool_env.errors import InvalidArgument
from steptool_env.rewards import RewardShaper
from steptool_env.tasks import TaskSuite
from steptool_env.tools.tool import Tool
from steptool_env.types import Malformed, Observation, ToolCall
from steptool_env.wrappers.catalogue import bind, focus_of, takes_one_text
from steptool_env.wrappers.memory import Memory, Value, words_of
from steptool_env.wrappers.view import View

__all__ = ["FEATURES", "StepToolDiscreteEnv", "tool_code"]

_CODE = 16
FEATURES = (
    *("valid", "repeats a good call", "repeats a bad call", "role in argument", "verb near role"),
    *("finish", "verb mentioned", "tool used", *(f"tool {bit}" for bit in range(_CODE))),
    *("role mentioned", "role near pointer", "role right of pointer", "nearest role", "from the user", "from the last result", "age", "letters", "digits"),
    *("value used", *(f"initial {bit}" for bit in range(5))),
    *("last call failed", "steps used", "results"),
)
"""What each number in a row of the observation means. All are in [-1, 1]."""

_PAIR, _TOOL, _VALUE, _SHARED = slice(0, 5), slice(5, 8 + _CODE), slice(8 + _CODE, 23 + _CODE), slice(23 + _CODE, 26 + _CODE)
_FAR = 8.0
_SMALL, _SCANNED = 1000, 64


def tool_code(name: str) -> NDArray[np.float32]:
    """Return the code of a tool: 16 numbers, each -1 or 1, the same for the same name everywhere."""
    digest = hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=_CODE // 8).digest()
    return np.unpackbits(np.frombuffer(digest, np.uint8)).astype(np.float32) * 2 - 1


class _Plan(NamedTuple):
    """What does not change about a tool."""

    focus: str
    asked: frozenset[str]
    """The words of the argument in focus."""
    verb: str
    takes_text: bool
    code: NDArray[np.float32]


class StepToolDiscreteEnv(View[NDArray[np.float32], np.int64]):
    """Multi-step tool use as numbers.

    Action ``a`` (``Discrete(tools * values)``):
        The call of tool ``a // values`` with value ``a % values`` in focus. Tool 0 is ``finish``, then come the others in
        the order of the offer. Values are ordered by recency: 0 is the first one of the latest result; what the user said
        counts from the end. Further required arguments are filled by role, see ``catalogue.bind``. An action that is no
        call now (``action_masks()`` is False) is answered by an error, like every mistake.
    Observation (``Box(-1, 1, (tools * values * 42,), float32)``):
        One row of 42 features for each action; ``rows`` gives it that shape, ``FEATURES`` names the columns. It holds what
        an optimal policy needs on tasks that the catalogue can solve: which roles the user speaks of and in which order,
        what has been tried, and the kinds of tools and values.
    Reward and end: as in ``StepToolEnv``. Info has ``action_mask`` as well, int8, for ``action_space.sample(mask)``.

    Args:
        suite: Name of a suite, or a ``TaskSuite``.
        shaper: Name of a shaper, or a callable.
        tools: Tools in the catalogue, ``finish`` included; by default, as many as a task of the suite offers at
            most (in suites of more than 1000 tasks, as many as some 64 of them do), and a tenth more for suites with several
            turns, which may bring further tools.
        values: Values in the catalogue, at least 8.
        max_steps: Overrides the step budget of every task.
        render_mode: As in ``StepToolEnv``.
        suite_options: Passed to the suite when it is given by name.
    """

    action_space: spaces.Discrete
    observation_space: spaces.Box  # type: ignore[assignment]  # its dtype is float32

    def __init__(
        self,
        suite: str | TaskSuite = "worlds",
        shaper: str | RewardShaper = "steptool",
        *,
        tools: int | None = None,
        values: int = 16,
        max_steps: int | None = None,
        render_mode: str | None = None,
        **suite_options: Any,
    ) -> None:
        super().__init__(suite, shaper, max_steps=max_steps, render_mode=render_mode, **suite_options)
        if tools is None:
            count = len(self.suite)
            scanned = range(count) if count <= _SMALL else range(0, count, count // _SCANNED)
            tools = max(len({*self.suite[index].tools, "finish"}) for index in scanned)
            if type(self.suite).after_finish is not TaskSuite.after_finish:  # a later turn may offer more than the first one
                tools += max(1, tools // 10)
        for name, number, least in (("tools", tools, 1), ("values", values, 8)):
            if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
                raise InvalidArgument(f"{name} must be an integer of at least {least}, got {number!r}")
        self.tools, self.values = int(tools), int(values)
        self.action_space = spaces.Discrete(self.tools * self.values)
        self.observation_space = spaces.Box(-1.0, 1.0, (self.tools * self.values * len(FEATURES),), np.float32)
        self._memory = Memory()
        self._heard = 0
        self._calls: list[tuple[ToolCall, Value | None] | None] = [None] * (self.tools * self.values)
        self._plans: dict[Tool, _Plan] = {}
        self._pending: tuple[ToolCall, Value | None] | None = None

    # ---------------------------------------------------------------- what learners ask for
    def action_masks(self) -> NDArray[np.bool_]:
        """Return which actions are calls now, shape ``(n,)``; the name is the one that sb3-contrib looks for."""
        return np.array([entry is not None for entry in self._calls], dtype=np.bool_)

    def rows(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return observations ``(..., n * 42)`` as ``(..., n, 42)``: one row of features for each action."""
        return observation.reshape(*observation.shape[:-1], self.tools * self.values, len(FEATURES))

    def call(self, action: int) -> ToolCall | None:
        """Return the call that an action makes now, or None if it makes none."""
        entry = self._calls[action]
        return entry[0] if entry is not None else None

    def index(self, call: ToolCall) -> int | None:
        """Return the action that makes this call now, or None if the catalogue has none."""
        return next((number for number, entry in enumerate(self._calls) if entry is not None and entry[0] == call), None)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode; arguments as in ``StepToolEnv.reset``."""
        self._memory, self._heard = Memory(), 0
        self._pending = None
        return super().reset(seed=seed, options=options)

    # ---------------------------------------------------------------- in and out
    def _enter(self, action: Any) -> Any:
        self._pending = None
        try:
            number = operator.index(action.item() if isinstance(action, np.ndarray) and action.size == 1 else action)
        except TypeError:
            return Malformed(f"<{type(action).__name__}>", f"expected an action from 0 to {len(self._calls) - 1}, got {type(action).__name__}")
        if not 0 <= number < len(self._calls):
            got = str(number) if abs(number) < 10**18 else "a huge number"  # str() refuses thousands of digits
            return Malformed(got, f"expected an action from 0 to {len(self._calls) - 1}, got {got}")
        self._pending = self._calls[number]
        if self._pending is None:
            tool, value = divmod(number, self.values)
            why = f"tool {tool} or value {value} does not exist, or they do not fit"
            return Malformed(str(number), f"action {number} is no call now: {why}; see action_masks()")
        return self._pending[0]

    def _leave(self, observation: Observation, info: dict[str, Any]) -> NDArray[np.float32]:
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
                    place = _place(memory, focus)
                    memory.pointer = memory.pointer if place is None else place
        memory.failed = bool(error)
        messages = observation["messages"]
        for role, content in messages[self._heard :]:
            if role == "user":
                memory.hear(content)
            elif role == "tool" and not error:
                memory.see(content)
        self._heard = len(messages)

    def _features(self, observation: Observation) -> NDArray[np.float32]:
        """Set the calls of all actions and return their rows."""
        memory, core = self._memory, self.core
        episode = core._running()
        offered = [episode.toolkit["finish"], *(one for name, one in episode.toolkit.items() if name != "finish")]
        if len(offered) > self.tools:
            raise InvalidArgument(f"task {core.task.id!r} offers {len(offered)} tools, the catalogue has {self.tools}: pass tools={len(offered)} to gym.make")
        slots = memory.recent(self.values)
        places = [None if value is None else _place(memory, value) for value in slots]
        latest = [place for value, place in zip(slots, places, strict=True) if value and value.source == memory.results and place is not None]
        nearest = max((place for place in latest if place < memory.pointer), default=None)
        of_values = np.array([_value_features(memory, value, place, nearest) for value, place in zip(slots, places, strict=True)], np.float32)
        roles = [set() if value is None else set(words_of(value.role)) for value in slots]
        tried = bool(memory.good or memory.bad)
        calls: list[tuple[ToolCall, Value | None] | None] = [None] * (self.tools * self.values)
        self._calls = calls
        of_pairs: list[tuple[float, float, float, float, float]] = [(0.0,) * 5] * (self.tools * self.values)
        of_tools = np.zeros((self.tools, 3 + _CODE), np.float32)
        texts = [None if value is None or isinstance(value.content, bool) else str(value.content) for value in slots]
        for number, tool in enumerate(offered):
            plan = self._plans.get(tool) or self._plan(tool)
            verbs = memory.places.get(plan.verb, ())
            of_tools[number] = plan.code
            of_tools[number, 1:3] = bool(verbs), tool.name in memory.tools
            for slot, value in enumerate(slots):
                if plan.takes_text:
                    if (content := texts[slot]) is None:
                        continue
                    arguments: dict[str, Any] | None = {plan.focus: content}
                else:
                    arguments = bind(tool, slot, slots)
                if arguments is None:
                    continue
                call = ToolCall(tool.name, arguments)
                entry = number * self.values + slot
                calls[entry] = (call, value if plan.focus else None)
                text = _key(call) if tried else ""
                near = _nearness(verbs, places[slot]) if verbs else 0.0
                of_pairs[entry] = (1.0, text in memory.good, text in memory.bad, not plan.asked.isdisjoint(roles[slot]), near)
        rows = np.empty((self.tools, self.values, len(FEATURES)), np.float32)
        pairs = np.array(of_pairs, np.float32).reshape(self.tools, self.values, 5)
        rows[:, :, _PAIR] = pairs
        rows[:, :, _TOOL] = of_tools[:, None]
        rows[:, :, _VALUE] = of_values[None]
        budget = self.max_steps or core.task.max_steps
        rows[:, :, _SHARED] = float(memory.failed), min(1.0, len(episode) / budget), min(1.0, memory.results / _FAR)
        rows *= pairs[:, :, :1]  # what is no call now has a row of zeros
        return rows.reshape(-1)

    def _plan(self, tool: Tool) -> _Plan:
        code = np.array([tool.name == "finish", 0.0, 0.0, *tool_code(tool.name)], np.float32)
        focus = focus_of(tool)
        if len(self._plans) > 10_000:  # a suite that makes new tools for every task must not fill the memory
            self._plans.clear()
        self._plans[tool] = plan = _Plan(focus, frozenset(words_of(focus)), (words_of(tool.name) or [""])[0], takes_one_text(tool), code)
        return plan

    # ---------------------------------------------------------------- copies
    def _remember(self) -> Any:
        return self._memory, self._heard

    def _recall(self, memory: Any) -> None:
        self._memory, self._heard = copy.deepcopy(memory)
        self._pending = None
        episode = self.core._running()
        self._features({"messages": episode.messages, "tools": episode.toolkit.schemas})

    def _again(self) -> Self:
        return type(self)(self.suite, self.shaper, tools=self.tools, values=self.values, max_steps=self.max_steps, render_mode=self.render_mode)


def _key(call: ToolCall) -> str:
    return repr((call.name, call.arguments))  # the catalogue writes equal calls in one way


def _place(memory: Memory, value: Value) -> int | None:
    return value.order - 1 if value.source == 0 and value.order else memory.place(value.role)


def _nearness(verbs: Sequence[int], place: int | None) -> float:
    if not verbs or place is None:
        return 0.0
    return max(0.0, 1.0 - min(abs(place - verb) for verb in verbs) / _FAR)


def _value_features(memory: Memory, value: Value | None, place: int | None, nearest: int | None) -> tuple[float, ...]:
    """Return four features of the role, six of the value, and the five bits of its first letter (a is 1; 0 for no letter)."""
    if value is None:
        return (0.0,) * 15
    text = str(value.content)
    distance = None if place is None else place - memory.pointer
    near = 0.0 if distance is None or distance >= 0 else max(0.0, 1.0 + distance / _FAR)
    latest = value.source == memory.results
    initial = ord(text[0].lower()) - 96 if text and text[0].isascii() and text[0].isalpha() else 0
    return (
        *(float(place is not None), near, float(distance is not None and distance > 0), float(latest and place is not None and place == nearest)),
        *(float(value.source == 0), float(latest), min(1.0, (memory.results - value.source) / _FAR)),
        *(float(any(map(str.isalpha, text))), float(any(map(str.isdigit, text))), float(text in memory.used)),
        *(1.0 if initial >> bit & 1 else -1.0 for bit in range(5)),
    )
