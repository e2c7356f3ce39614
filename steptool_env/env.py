"""``StepToolEnv``: the decision process of multi-step tool use as a Gymnasium environment.

Nothing algorithmic lives here. The suite knows the tasks, their tools and their verdicts; the shaper knows the rewards.
"""

from __future__ import annotations

import copy
import json
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym

from steptool_env.errors import InvalidArgument, NotSupported, ResetNeeded, UnknownName
from steptool_env.rewards import RewardShaper, bind, make_shaper
from steptool_env.spaces import ToolCallSpace, observation_space
from steptool_env.tasks import Episode, TaskSuite, make_suite
from steptool_env.types import Action, Malformed, Message, Observation, Task, ToolCall, ToolResult, Transition

__all__ = ["Snapshot", "StepToolEnv", "as_action"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The exact state of an environment in the middle of an episode; picklable, restorable many times."""

    task: Task
    transitions: tuple[Transition, ...]
    messages: tuple[Message, ...]
    state: Any
    progress: float
    random: Any
    ended: str


class StepToolEnv(gym.Env[Observation, dict[str, Any]]):
    """Multi-step tool use: one step is one tool call.

    Observation (``Dict``):
        ``messages``: tuple of ``Message(role, content)``, the whole transcript; ``tools``: JSON list of function schemas.
    Action:
        ``{"name": str, "arguments": {…}}``, a ``ToolCall``, or a ``Malformed``. ``finish(answer, give_up=False)`` ends the
        episode. A wrong action of any kind is answered by an error observation; it never raises.
    Reward (float):
        The sum of the parts that the shaper pays for the step, in ``info["reward_parts"]``.
    Termination:
        ``finish`` was called (and the user has nothing more to ask). Truncation: the step budget is used up, or the
        infrastructure behind a tool failed (``info["masked"]`` is then True: do not learn from the step).
    Info (the same types at every step):
        ``task_id`` str, ``success`` float in [0, 1], ``progress`` float in [0, 1], ``tool_error`` str (one of
        ``steptool_env.ERRORS``), ``masked`` bool, and after a step ``reward_parts`` dict of str to float.

    Args:
        suite: Name of a suite, or a ``TaskSuite``.
        shaper: Name of a shaper, or a callable from the episode so far to the parts of the last step's reward.
        max_steps: Overrides the step budget of every task.
        render_mode: ``"ansi"`` or None.
        suite_options: Passed to the suite when it is given by name (``level=``, ``split=``, ``category=`` …).
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi"], "render_fps": 4}  # type: ignore[misc]  # Gymnasium does not say ClassVar
    action_space: ToolCallSpace

    def __init__(
        self,
        suite: str | TaskSuite = "worlds",
        shaper: str | RewardShaper = "steptool",
        *,
        max_steps: int | None = None,
        render_mode: str | None = None,
        **suite_options: Any,
    ) -> None:
        if max_steps is not None and (not isinstance(max_steps, int) or max_steps < 1):
            raise InvalidArgument(f"max_steps must be a positive integer or None, got {max_steps!r}")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise InvalidArgument(f"render_mode must be None or one of {self.metadata['render_modes']}, got {render_mode!r}")
        self.suite = make_suite(suite, **suite_options)
        if not len(self.suite):
            raise InvalidArgument(f"suite {self.suite.name!r} has no tasks")
        self.shaper = bind(make_shaper(shaper), self.suite, max_steps)
        self.max_steps = max_steps
        self.render_mode = render_mode
        self.observation_space = observation_space()  # type: ignore[assignment]  # a Dict space knows no TypedDict
        self.action_space = ToolCallSpace(self.suite.toolkit(self.suite[0]).parameters)
        self.episode: Episode | None = None
        self._progress = 0.0
        self._ended = ""

    # ---------------------------------------------------------------- the Gymnasium API
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Seeds ``np_random``, which draws the task.
            options: ``{"task": index or id}`` chooses the task instead.
        """
        super().reset(seed=seed)
        for option in options or {}:
            if option != "task":
                raise UnknownName("reset option", option, ["task"])
        task = self._choose((options or {}).get("task"))
        self.episode = episode = Episode(task, self.suite.toolkit(task))
        self._progress = self.suite.progress(task, episode)
        self._ended = ""
        self.action_space.offer(episode.toolkit.parameters, episode.messages)
        return _observe(episode), self._info(episode, "", 0.0)

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Execute one tool call; see the class for what comes back."""
        episode = self.episode
        if episode is None:
            raise ResetNeeded("step() was called before reset()")
        if self._ended:
            return self._after_end(episode)
        task, before = episode.task, self._progress
        call, said = _read(action)
        toolkit = episode.toolkit
        offered = toolkit.schemas
        result = ToolResult(f"Error: {call.reason}", "malformed") if isinstance(call, Malformed) else toolkit.execute(call)
        reply = Message("tool", result.content)
        finished = not result.error and call.name == "finish"  # type: ignore[union-attr]  # only a ToolCall has no error
        step = len(episode)
        transition = Transition(task, step, call, result, finished, False, None, before, before)
        if finished:
            episode.transitions.append(transition)
            following = self.suite.after_finish(task, episode)
            episode.transitions.pop()
            if following is not None:
                finished, reply = False, Message("user", following)
        episode.messages = (*episode.messages, Message("assistant", said), reply)
        truncated = not finished and (step + 1 >= (self.max_steps or task.max_steps) or result.error == "unavailable")
        episode.transitions.append(transition)
        outcome = self.suite.grade(task, episode) if finished or truncated else None
        self._progress = progress = self.suite.progress(task, episode)
        episode.transitions[-1] = Transition(task, step, call, result, finished, truncated, outcome, progress, before)
        parts = self._parts(episode)
        if finished or truncated:
            self._ended = "terminated" if finished else "truncated"
        if toolkit.schemas is not offered:
            self.action_space.offer(toolkit.parameters, episode.messages)
        else:
            self.action_space.see(episode.messages)
        info = self._info(episode, result.error, float(outcome.solved) if outcome is not None else 0.0)
        info["reward_parts"] = parts
        return _observe(episode), sum(parts.values(), 0.0), finished, truncated, info

    def render(self) -> str | None:
        """Return the transcript as text in ``"ansi"`` mode."""
        if self.render_mode != "ansi":
            return None
        if self.episode is None:
            raise ResetNeeded("render() was called before reset()")
        return "\n".join(f"{role:>9}: {content}" for role, content in self.episode.messages) + "\n"

    # ---------------------------------------------------------------- beyond Gymnasium
    @property
    def task(self) -> Task:
        """The current task; raises ``ResetNeeded`` before the first reset."""
        return self._running().task

    def solution(self) -> list[ToolCall]:
        """Return the calls that solve the task from here; raises ``NotSupported`` where the suite knows none."""
        episode = self._running()
        return self.suite.solution(episode.task, episode)

    def snapshot(self) -> Snapshot:
        """Return the exact state, random generators included."""
        episode = self._running()
        if not self.suite.can_snapshot:
            raise NotSupported(f"suite {self.suite.name!r} cannot be copied in mid-episode (can_snapshot is False)")
        random = copy.deepcopy((self.np_random.bit_generator.state, self.action_space.np_random.bit_generator.state))
        return Snapshot(episode.task, tuple(episode.transitions), episode.messages, episode.toolkit.snapshot(), self._progress, random, self._ended)

    def restore(self, snapshot: Snapshot) -> None:
        """Return to a state from ``snapshot``, also one of another environment with the same suite."""
        toolkit = self.suite.toolkit(snapshot.task)
        toolkit.restore(snapshot.state)
        self.episode = Episode(snapshot.task, toolkit, list(snapshot.transitions))
        self.episode.messages = snapshot.messages
        self._progress, self._ended = snapshot.progress, snapshot.ended
        self.np_random.bit_generator.state, self.action_space.np_random.bit_generator.state = copy.deepcopy(snapshot.random)
        self.action_space.offer(toolkit.parameters, snapshot.messages)

    def fork(self) -> StepToolEnv:
        """Return a second environment in the same state; what one does leaves the other alone."""
        twin = StepToolEnv(self.suite, self.shaper, max_steps=self.max_steps, render_mode=self.render_mode)
        twin.spec = self.spec
        twin.restore(self.snapshot())
        return twin

    # ---------------------------------------------------------------- parts
    def _choose(self, wanted: Any) -> Task:
        if wanted is None:
            return self.suite[int(self.np_random.integers(len(self.suite)))]
        if isinstance(wanted, str):
            try:
                return self.suite[self.suite.index(wanted)]
            except KeyError:
                some = [self.suite[index].id for index in range(min(5, len(self.suite)))]
                raise UnknownName("task id", wanted, some if len(self.suite) <= 5 else [*some, "…"]) from None
        try:
            index = operator.index(wanted)
            if index < 0:
                raise IndexError
            return self.suite[index]
        except (IndexError, TypeError):
            raise InvalidArgument(f"options['task'] must be a task id or an index from 0 to {len(self.suite) - 1}, got {wanted!r}") from None

    def _running(self) -> Episode:
        if self.episode is None:
            raise ResetNeeded("there is no episode yet; call reset() first")
        return self.episode

    def _info(self, episode: Episode, error: str, success: float) -> dict[str, Any]:
        return {
            "task_id": episode.task.id,
            "success": success,
            "progress": self._progress,
            "tool_error": error,
            "masked": error == "unavailable",
        }

    def _parts(self, episode: Episode) -> dict[str, float]:
        returned = self.shaper(episode)
        try:
            parts = {str(name): float(value) for name, value in returned.items()}
        except (AttributeError, TypeError, ValueError, OverflowError) as fault:
            raise InvalidArgument(f"shaper {self.shaper!r} must return a mapping of part names to numbers, got {_short(returned)}: {fault}") from fault
        for name, value in parts.items():
            if not math.isfinite(value):
                raise InvalidArgument(f"shaper {self.shaper!r} returned {value} for part {name!r}; every part must be finite")
        if episode[-1].result.error == "unavailable":  # an infrastructure fault earns nothing, good or bad
            parts = dict.fromkeys(parts, 0.0)
        return parts

    def _after_end(self, episode: Episode) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        if self._ended == "terminated":
            raise ResetNeeded("the episode has ended (terminated); call reset() first")
        # A model that goes on after its budget made a mistake of its own: told so, and paid nothing.
        last = episode[-1]
        if last.result.error == "unavailable":
            text = "Error: the episode was cut short because a tool was unavailable; no further call is executed."
        else:
            text = f"Error: the budget of {len(episode)} steps is used up; no further call is executed."
        observation: Observation = {"messages": (*episode.messages, Message("tool", text)), "tools": episode.toolkit.schemas}
        info = self._info(episode, "over_budget", float(last.outcome.solved) if last.outcome else 0.0)
        info["reward_parts"] = dict.fromkeys(self._parts(episode), 0.0)
        return observation, 0.0, False, True, info


def as_action(action: Any) -> Action:
    """Read what was passed to ``step``. Total: anything that is no call becomes a ``Malformed`` with the reason.

    The arguments are copied as JSON, so that what the caller or a tool does to theirs later changes no record.
    """
    return _read(action)[0]


def _read(action: Any) -> tuple[Action, str]:
    """Return the action and its text in the transcript."""
    if isinstance(action, Malformed):
        return _malformed(str(action.text), str(action.reason))
    name: Any
    arguments: Any
    if isinstance(action, ToolCall):
        name, arguments = action.name, action.arguments
    elif isinstance(action, Mapping):
        name, arguments = action.get("name"), action.get("arguments", {})
        if extra := [key for key in action if key not in ("name", "arguments")]:
            return _malformed(_short(action), f"{_EXPECTED}, got further keys {_short(extra)}")
    else:
        return _malformed(_short(action), f"{_EXPECTED}, got {type(action).__name__}")
    if not isinstance(name, str):
        return _malformed(_short(action), f"{_EXPECTED}, got a name of type {type(name).__name__}")
    if not isinstance(arguments, Mapping) or not all(isinstance(key, str) for key in arguments):
        return _malformed(_short(action), f"{_EXPECTED}, got arguments {_short(arguments)}")
    try:
        text = _clean(_encode({"name": name, "arguments": dict(arguments)}))
        return ToolCall(**_decode(text)), text
    except (TypeError, ValueError, RecursionError) as fault:
        return _malformed(_short(action), f"the arguments are not JSON: {str(fault)[:200]}")


# json.dumps and json.loads would make a new coder at every step.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_decode = json.JSONDecoder().decode
_EXPECTED = 'expected {"name": str, "arguments": {...}}'


def _malformed(text: str, reason: str) -> tuple[Malformed, str]:
    text = _clean(text)
    return Malformed(text, _clean(reason)), text


def _observe(episode: Episode) -> Observation:
    return {"messages": episode.messages, "tools": episode.toolkit.schemas}


def _clean(text: str) -> str:
    # A lone surrogate can be neither encoded nor stored nor tokenized.
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _short(value: Any) -> str:
    try:
        return repr(value)[:200]
    except Exception:  # a foreign __repr__ may do anything
        return f"<{type(value).__name__}>"
