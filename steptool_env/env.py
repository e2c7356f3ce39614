"""``StepToolEnv``: the decision process of multi-step tool use as a Gymnasium environment.

Nothing algorithmic lives here. The suite knows the tasks, their tools and their verdicts; the shaper knows the rewards.
"""

from __future__ import annotations

import copy
import operator
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar

import gymnasium as gym

from steptool_env.actions import ReadAction, as_action, read
from steptool_env.errors import InvalidArgument, NotSupported, ResetNeeded, UnknownName
from steptool_env.foreign import shown
from steptool_env.html import environment_html, fragment
from steptool_env.rendering import MODES, Renderer
from steptool_env.rewards import RewardShaper, bind, make_shaper, name_of
from steptool_env.spaces import ToolCallSpace, observation_space
from steptool_env.tasks import Episode, TaskSuite, make_suite
from steptool_env.tools.toolkit import Toolkit
from steptool_env.types import ERRORS, Message, Observation, Outcome, Task, ToolCall, ToolResult, Transition, new_tuple, whose
from steptool_env.words import counted

__all__ = ["Snapshot", "StepToolEnv", "as_action"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The exact state of an environment in the middle of an episode; picklable, restorable many times."""

    task: Task
    transitions: tuple[Transition, ...]
    messages: tuple[Message, ...]
    state: Any
    progress: float
    generators: Any
    """States of the random generators: the environment's and its action space's."""
    ended: str
    """``""`` while it runs, otherwise ``"terminated"`` or ``"truncated"``."""
    rewards: tuple[float, ...] = ()
    """The reward of every step so far, for rendering."""
    form: Any = None
    """What another form of the environment keeps in addition."""


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
        shaper: Name of a shaper, or a callable that maps the episode so far to the parts of the last step's reward.
        max_steps: Overrides the step budget of every task.
        render_mode: ``"ansi"`` (``render`` returns the transcript as text), ``"human"`` (every reset and step prints what is
            new), ``"rgb_array"`` (``render`` returns a picture; needs Pillow) or None.
        suite_options: Passed to the suite when it is given by name (``level=``, ``split=``, ``category=`` …).
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": list(MODES), "render_fps": 4}  # type: ignore[misc]  # Gymnasium does not say ClassVar
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
        self._renderer = Renderer()
        self._prints = render_mode == "human"
        self._has_turns = self.suite.has_turns
        self.observation_space = observation_space()  # type: ignore[assignment]  # a Dict space knows no TypedDict
        self.action_space = ToolCallSpace(self._fresh(self.suite[0]).parameters)
        self.episode: Episode | None = None
        self._progress = 0.0
        self._ended = ""
        self._rewards: list[float] = []
        self._tools = ""

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
        self.episode = episode = Episode(task, self._fresh(task))
        self._progress = self.suite.progress(task, episode)
        self._ended = ""
        self._rewards = []
        self._offer(episode)
        if self._prints:
            self._print()
        return {"messages": episode.messages, "tools": self._tools}, self._info(task, "", 0.0)

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Execute one tool call; the class documents what is returned. Raises ``ResetNeeded`` without a running episode."""
        episode = self.episode
        if episode is None:
            raise ResetNeeded("step() was called before reset()")
        if self._ended:
            return self._after_end(episode)
        task, before = episode.task, self._progress
        call, text = action if type(action) is ReadAction else read(action)
        toolkit = episode.toolkit
        result = toolkit.execute(call) if type(call) is ToolCall else ToolResult(f"Error: {call.reason}", call.error)  # type: ignore[union-attr]
        error, masked = result.error, False
        if error != "":
            if error not in ERRORS:
                raise InvalidArgument(f"the toolkit of task {task.id!r} answered with the error {error!r}; the kinds are {', '.join(ERRORS[1:])}")
            masked = whose(error) == "infrastructure"
        transitions = episode.transitions
        step = len(transitions)
        finished = not error and call.name == "finish"  # type: ignore[union-attr]  # only a ToolCall has no error
        if task.shows_budget and not finished:
            left = counted((self.max_steps or task.max_steps) - step - 1, "call")
            result = ToolResult(f"{result.content}\n({left} left)", result.error)
        reply: Message = new_tuple(Message, ("tool", result.content))
        if finished and self._has_turns:
            transitions.append(Transition(task, step, call, result, True, False, None, before, before))
            following = self.suite.after_finish(task, episode)
            transitions.pop()
            if following is not None:
                finished, reply = False, Message("user", following)
        episode.messages = messages = (*episode.messages, new_tuple(Message, ("assistant", text)), reply)
        truncated = not finished and (step + 1 >= (self.max_steps or task.max_steps) or masked)
        # The suite sees the step as it was executed; the step with its verdict and progress then replaces it, if there is any news.
        transitions.append(new_tuple(Transition, (task, step, call, result, finished, truncated, None, before, before, None)))
        outcome, success = None, 0.0
        if finished or truncated:
            outcome = self.suite.grade(task, episode)
            if not isinstance(outcome, Outcome):
                raise InvalidArgument(f"suite {self.suite.name!r}: grade must return an Outcome, such as Outcome(1.0), got {shown(outcome)}")
            success = float(outcome.solved)
            self._ended = "terminated" if finished else "truncated"
        self._progress = progress = self.suite.progress(task, episode)
        if outcome is not None or progress is not before:
            transitions[step] = new_tuple(Transition, (task, step, call, result, finished, truncated, outcome, progress, before, None))
        parts, reward = self._parts(episode, masked)
        self._rewards.append(reward)
        tools = toolkit.schemas
        if tools is self._tools:
            self.action_space.see(messages)
        else:
            self._offer(episode)
        if self._prints:
            self._print()
        info = {"task_id": task.id, "success": success, "progress": progress, "tool_error": error, "masked": masked, "reward_parts": parts}
        return {"messages": messages, "tools": tools}, reward, finished, truncated, info

    def render(self) -> Any:
        """Return the transcript with the reward of every step: text (``"ansi"``) or an RGB array of uint8 (``"rgb_array"``).

        In ``"human"`` mode the environment prints by itself, and without a mode there is nothing to return.

        Raises:
            ResetNeeded: There is no episode yet.
            MissingExtra: ``"rgb_array"`` needs Pillow.
        """
        if self.render_mode in (None, "human"):
            return None
        episode = self._running()
        if self.render_mode == "ansi":
            return self._renderer.text(episode, self._rewards, self._ended)
        return self._renderer.picture(episode, self._rewards, self._ended)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the suite and the shaper, the task with the tools on offer, and the episode so far."""
        about = ", ".join(filter(None, [f"{type(self).__name__} of {self.suite.name}", self.suite.about(), f"shaper {name_of(self.shaper)}"]))
        if self.episode is None:
            return fragment(about, f"<p>{counted(len(self.suite), 'task')}; call reset() to begin an episode.</p>")
        return environment_html(about, self.episode, self._rewards, self.max_steps)

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
        generators = copy.deepcopy((self.np_random.bit_generator.state, self.action_space.np_random.bit_generator.state))
        state, rewards = episode.toolkit.snapshot(), tuple(self._rewards)
        return Snapshot(episode.task, tuple(episode.transitions), episode.messages, state, self._progress, generators, self._ended, rewards)

    def restore(self, snapshot: Snapshot) -> None:
        """Return to a state from ``snapshot``, also one of another environment with the same suite."""
        toolkit = self.suite.toolkit(snapshot.task)
        toolkit.restore(snapshot.state)
        self.episode = Episode(snapshot.task, toolkit, list(snapshot.transitions))
        self.episode.messages = snapshot.messages
        self._progress, self._ended, self._rewards = snapshot.progress, snapshot.ended, list(snapshot.rewards)
        self.np_random.bit_generator.state, self.action_space.np_random.bit_generator.state = copy.deepcopy(snapshot.generators)
        self._offer(self.episode)

    def fork(self) -> StepToolEnv:
        """Return a second environment in the same state; the two do not affect each other."""
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

    def _fresh(self, task: Task) -> Toolkit:
        """Return the tools of a new episode; a suite is somebody's own code, so what it returns is looked at."""
        if not isinstance(task, Task):
            raise InvalidArgument(f"suite {self.suite.name!r}: its tasks must be of the class Task, got {shown(task)}")
        toolkit = self.suite.toolkit(task)
        if not isinstance(toolkit, Toolkit):
            raise InvalidArgument(f"suite {self.suite.name!r}: toolkit must return a Toolkit, such as Toolkit([search, book]), got {shown(toolkit)}")
        for name in task.tools:
            if name not in toolkit:
                raise UnknownName(f"tool in the tools of task {task.id!r}:", name, toolkit)
        return toolkit

    def _running(self) -> Episode:
        if self.episode is None:
            raise ResetNeeded("there is no episode yet; call reset() first")
        return self.episode

    def _print(self) -> None:
        self._renderer.show(self._running(), self._rewards, self._ended)

    def _offer(self, episode: Episode) -> None:
        """Remember which tools are on offer, and have the action space draw its samples from them."""
        self._tools = episode.toolkit.schemas
        self.action_space.offer(episode.toolkit.parameters, episode.messages)

    def _info(self, task: Task, error: str, success: float) -> dict[str, Any]:
        masked = bool(error) and whose(error) == "infrastructure"
        return {"task_id": task.id, "success": success, "progress": self._progress, "tool_error": error, "masked": masked}

    def _parts(self, episode: Episode, masked: bool) -> tuple[dict[str, float], float]:
        """Return the parts of the last step's reward and their sum; all 0 where it is masked."""
        returned = self.shaper(episode)
        try:
            parts = returned.copy() if type(returned) is dict else dict(returned.items())
            for name in parts:
                if type(parts[name]) is not float or type(name) is not str:
                    parts = {str(name): float(value) for name, value in parts.items()}
                    break
        except (AttributeError, TypeError, ValueError, OverflowError) as fault:
            raise InvalidArgument(f"shaper {name_of(self.shaper)} must return a mapping of part names to numbers, got {shown(returned)}: {fault}") from fault
        total = sum(parts.values(), 0.0)
        if not isfinite(total):
            for name, value in parts.items():
                if not isfinite(value):
                    raise InvalidArgument(f"shaper {name_of(self.shaper)} returned {value} for part {name!r}; every part must be finite")
            raise InvalidArgument(f"shaper {name_of(self.shaper)} returned parts whose sum is not finite: {parts}")
        if masked:  # an infrastructure fault earns nothing, good or bad
            return dict.fromkeys(parts, 0.0), 0.0
        return parts, total

    def _after_end(self, episode: Episode) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        if self._ended == "terminated":
            raise ResetNeeded("the episode has ended (terminated); call reset() first")
        # A model that goes on after its budget is at fault: it is told so and paid nothing.
        last = episode[-1]
        masked = whose(last.result.error) == "infrastructure"
        if masked:
            text = "Error: the episode was cut short because a tool was unavailable; no further call is executed."
        else:
            text = f"Error: the budget of {len(episode)} steps is used up; no further call is executed."
        observation: Observation = {"messages": (*episode.messages, Message("tool", text)), "tools": episode.toolkit.schemas}
        info = self._info(episode.task, "over_budget", float(last.outcome.solved) if last.outcome else 0.0)
        info["reward_parts"] = dict.fromkeys(self._parts(episode, masked)[0], 0.0)
        return observation, 0.0, False, True, info
