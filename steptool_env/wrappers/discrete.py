"""``StepToolDiscrete-v0``: the action is a number from a catalog of calls, the observation a vector of numbers.

Made for algorithms that know nothing of text: stable-baselines3, RLlib, single-file implementations.
"""

from __future__ import annotations

import copy
import operator
from typing import Any, Self

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from steptool_env.errors import InvalidArgument, NotSupported, UnknownName
from steptool_env.foreign import is_a, kind_of
from steptool_env.rewards import RewardShaper
from steptool_env.tasks import TaskSuite
from steptool_env.types import Malformed, Observation, ToolCall
from steptool_env.wrappers.base import OtherForm
from steptool_env.wrappers.catalog import forms_of
from steptool_env.wrappers.compact import Compact, compact_features, tools_of
from steptool_env.wrappers.features import FEATURES, tool_code
from steptool_env.wrappers.rows import Rows
from steptool_env.wrappers.view import View

__all__ = ["FEATURES", "OBSERVATIONS", "StepToolDiscreteEnv", "sizes_of", "tool_code"]

OBSERVATIONS = ("compact", "rows")
"""Values of ``observation=``."""
_SMALL, _SCANNED = 1000, 64
_VALUES = 16


class StepToolDiscreteEnv(OtherForm[NDArray[np.float32], np.int64]):
    """Multi-step tool use as numbers.

    ``observation="compact"``, for networks that know nothing of the form (the ``MlpPolicy`` of stable-baselines3, for example):
        Action ``a`` (``Discrete(2 * 15 + 14 * tools)``) answers with one of 12 values, or with one of 3 composed answers; gives
        up with it; or calls a tool with a value, with none, or for the next page. Values and tools are numbered by where the
        user and the results name them, so that a number means the same in every task. The observation (``Box(-1, 1, (n,),
        float32)``) has a few hundred numbers; ``features`` names them, see ``compact.py``.
    ``observation="rows"``, for policies that score every action by its own row:
        Action ``a`` (``Discrete(forms * values)``) is the call of form ``a // values`` with value ``a % values`` in focus. A
        form is a tool with the choices among its other arguments made, see ``catalog.forms_of``: first come those of
        ``finish`` (form 0 is plain ``finish``), then those of the other tools in the order of the offer. Values are ordered
        by recency: 0 is the first one of the latest result; what the user said counts from the end. Further arguments are
        filled by role, see ``catalog.bind``. The observation (``Box(-1, 1, (forms * values * 54,), float32)``) has one row
        of 54 features for each action; ``rows`` gives it that shape, ``FEATURES`` names the columns.
    Both:
        The observation holds what an optimal policy needs on tasks that the catalog can solve. An action that is not a call
        now (``action_masks()`` is False) is answered by an error, like every mistake.
    Reward and end: as in ``StepToolEnv``. Info has ``action_mask`` as well, int8, for ``action_space.sample(mask)``.

    Args:
        suite: Name of a suite, or a ``TaskSuite``.
        shaper: Name of a shaper, or a callable.
        observation: One of ``OBSERVATIONS``.
        forms: Forms in the catalog. ``compact`` has two for ``finish`` and one for each tool, ``rows`` one for each tool and
            choice. By default, as many as the tools of a task of the suite can have at most (in suites of more than 1000
            tasks, judged by some 64 of them), and a tenth more for suites with several turns, which may bring further tools.
        values: Values in the catalog of ``rows``, at least 8; 16 by default.
        max_steps: Overrides the step budget of every task.
        render_mode: As in ``StepToolEnv``.
        suite_options: Passed to the suite when it is given by name.
    """

    action_space: spaces.Discrete
    observation_space: spaces.Box  # type: ignore[assignment]  # its dtype is float32
    observation: str
    forms: int
    values: int | None

    def __init__(
        self,
        suite: str | TaskSuite = "worlds",
        shaper: str | RewardShaper = "steptool",
        *,
        observation: str = "compact",
        forms: int | None = None,
        values: int | None = None,
        max_steps: int | None = None,
        render_mode: str | None = None,
        **suite_options: Any,
    ) -> None:
        super().__init__(suite, shaper, max_steps=max_steps, render_mode=render_mode, **suite_options)
        if observation not in OBSERVATIONS:
            raise UnknownName("observation", observation, OBSERVATIONS)
        self.observation = observation
        compact = observation == "compact"
        self.forms = _integer("forms", _most_forms(self.suite, compact) if forms is None else forms, 2 if compact else 1)
        if compact and values is not None:
            raise InvalidArgument(f"values is for observation='rows'; 'compact' has a fixed number of them, got {values!r}")
        self.values = None if compact else _integer("values", _VALUES if values is None else values, 8)
        self._view: View = Compact(self.forms - 2) if self.values is None else Rows(self.forms, self.values)
        self.action_space = spaces.Discrete(len(self._view.calls))
        self.observation_space = spaces.Box(-1.0, 1.0, (self._view.size,), np.float32)
        self._read_count = 0
        self._pending: tuple[ToolCall, Any] | None = None

    # ---------------------------------------------------------------- what learners ask for
    def action_masks(self) -> NDArray[np.bool_]:
        """Return which actions are calls now, shape ``(n,)``; the name is the one that sb3-contrib looks for."""
        return np.array([entry is not None for entry in self._view.calls], dtype=np.bool_)

    def rows(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return observations ``(..., n * 54)`` as ``(..., n, 54)``: one row of features for each action. Only for ``observation="rows"``."""
        if self.values is None:
            raise NotSupported("the compact observation has no rows: pass observation='rows' to gym.make")
        return observation.reshape(*observation.shape[:-1], self.forms * self.values, len(FEATURES))

    @property
    def features(self) -> tuple[str, ...]:
        """What each number of an observation means; with ``observation="rows"``, each number of a row."""
        return self._view.features if isinstance(self._view, Compact) else FEATURES

    def call(self, action: int) -> ToolCall | None:
        """Return the call that an action makes now, or None if it makes none."""
        entry = self._view.calls[action]
        return entry[0] if entry is not None else None

    def index(self, call: ToolCall) -> int | None:
        """Return the first action that makes this call now, or None if the catalog has none."""
        return next((number for number, entry in enumerate(self._view.calls) if entry is not None and entry[0] == call), None)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode; arguments as in ``StepToolEnv.reset``."""
        self._view.start()
        self._read_count = 0
        self._pending = None
        return super().reset(seed=seed, options=options)

    # ---------------------------------------------------------------- in and out
    def _convert_action(self, action: Any) -> Any:
        self._pending = None
        count = len(self._view.calls)
        try:
            number = operator.index(action.item() if is_a(action, np.ndarray) and action.size == 1 else action)
        except KeyboardInterrupt:
            raise
        except BaseException:  # TypeError, and whatever a foreign number raises
            return Malformed(f"<{kind_of(action)}>", f"expected an action from 0 to {count - 1}, got {kind_of(action)}")
        if not 0 <= number < count:
            got = str(number) if abs(number) < 10**18 else "a huge number"  # str() refuses thousands of digits
            return Malformed(got, f"expected an action from 0 to {count - 1}, got {got}")
        self._pending = self._view.calls[number]
        if self._pending is None:
            return Malformed(str(number), f"action {number} is no call now: {self._view.why_not(number)}; see action_masks()")
        return self._pending[0]

    def _convert_observation(self, observation: Observation, info: dict[str, Any]) -> NDArray[np.float32]:
        if info["tool_error"] != "over_budget":
            self._note(observation, info["tool_error"])
        self._pending = None
        numbers = self._look()
        info["action_mask"] = self.action_masks().astype(np.int8)
        return numbers

    def _note(self, observation: Observation, error: str) -> None:
        view = self._view
        view.note(self._pending, error)
        messages = observation["messages"]
        for role, content in messages[self._read_count :]:
            if role == "user":
                view.hear(content)
            elif role == "tool" and not error:
                view.see(content)
        self._read_count = len(messages)

    def _look(self) -> NDArray[np.float32]:
        return self._view.look(self.core._running(), self.max_steps or self.core.task.max_steps)

    # ---------------------------------------------------------------- copies
    def _form_state(self) -> Any:
        return self._view.state, self._read_count

    def _restore_form_state(self, memory: Any) -> None:
        self._view.state, self._read_count = copy.deepcopy(memory)
        self._pending = None
        self._look()

    def _fresh(self) -> Self:
        sizes: dict[str, Any] = {"forms": self.forms, "values": self.values}
        return type(self)(self.suite, self.shaper, observation=self.observation, **sizes, max_steps=self.max_steps, render_mode=self.render_mode)


def sizes_of(action_space: spaces.Space[Any], observation_space: spaces.Space[Any], values: int = _VALUES) -> dict[str, Any]:
    """Return the keywords of ``gym.make`` that bring environments with these spaces: ``observation`` and ``forms``.

    Args:
        action_space: Of ``StepToolDiscrete-v0``.
        observation_space: Of the same.
        values: Values in its catalog, for rows.

    Raises:
        InvalidArgument: They are the spaces of something else.
    """
    actions, shape = int(getattr(action_space, "n", 0)), observation_space.shape
    if actions and shape == (actions * len(FEATURES),):
        return {"observation": "rows", "forms": actions // values}
    tools = tools_of(actions)
    if tools is not None and shape == (len(compact_features(tools)),):
        return {"observation": "compact", "forms": tools + 2}
    raise InvalidArgument(f"expected the spaces of StepToolDiscrete-v0, got {observation_space} for {action_space}")


def _integer(name: str, number: Any, least: int) -> int:
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
        raise InvalidArgument(f"{name} must be an integer of at least {least}, got {number!r}")
    return int(number)


def _most_forms(suite: TaskSuite, compact: bool) -> int:
    """Return how many forms the tools of one task can have: the most tools that are offered together, those with the most forms."""
    if compact and suite.most_tools is not None:
        return 2 + suite.most_tools
    count = len(suite)
    scanned = [suite[index] for index in (range(count) if count <= _SMALL else range(0, count, count // _SCANNED))]
    forms: dict[str, int] = {}
    for task in scanned:
        if not set(task.tools) <= forms.keys():
            for name, tool in suite.toolkit(task).items():
                forms[name] = max(forms.get(name, 0), 1 if compact else len(forms_of(tool)))
    finish = forms.pop("finish") + compact  # to give up is a form of its own
    together = max(len({*task.tools} - {"finish"}) for task in scanned)
    most = finish + sum(sorted(forms.values(), reverse=True)[:together])
    if suite.has_turns:  # a later turn may offer more than the first one
        most += max(1, most // 10)
    return most
