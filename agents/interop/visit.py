"""``Visit``: an episode that another library plays, one action at a time, with what this package promises of every episode.

Other trainers own the loop. They know no step budget, or one of their own; they stop where a model stops calling tools; and they ask for one
number when it is over. What that means here is said once, in this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from steptool_env.env import StepToolEnv
from steptool_env.rewards import knows_later, label
from steptool_env.tasks import Episode
from steptool_env.types import Malformed, Message, Observation
from steptool_env.wrappers import StepToolTextEnv

__all__ = ["Visit"]


class Visit:
    """One episode after the other on one environment.

    Args:
        env: Takes calls, or texts.
        most: The other library's budget of steps; the smaller one of it and the task's holds. None: the task's.
    """

    def __init__(self, env: StepToolEnv | StepToolTextEnv, most: int | None = None) -> None:
        self.env, self.most, self._offered = env, most, ""
        self._core = env.core if isinstance(env, StepToolTextEnv) else env
        self._budget = self._core.max_steps
        self._clear()

    def _clear(self) -> None:
        self.reward = 0.0
        """Of all steps so far, as the shaper pays it."""
        self.success = 0.0
        self.ended = False
        self.masked = False
        """Whether the infrastructure failed: the episode says nothing about the model."""

    @property
    def episode(self) -> Episode:
        """The episode; raises ``ResetNeeded`` before the first one."""
        return self._core._running()

    def start(self, task: int | str | None, seed: int | None = None) -> Observation:
        """Begin a task, given by its index or id, or drawn; raises as ``StepToolEnv.reset`` does."""
        self._clear()
        self._core.max_steps = self._budget
        observation, _ = self.env.reset(seed=seed, options=None if task is None else {"task": task})
        self._offered = self.episode.toolkit.schemas
        if self.most is not None:
            self._core.max_steps = min(self.most, self._budget or self.episode.task.max_steps)
        return observation

    def play(self, action: Any) -> tuple[tuple[Message, ...], float]:
        """Execute an action; return the messages that answer it, and its reward. After the end nothing is executed, and 0.0 paid.

        What a shaper knows only in hindsight is paid with the last step, so that the sum is that of this package's own rollout.
        """
        if self.ended:
            return (Message("tool", "The episode has ended; no further call is executed."),), 0.0
        seen = len(self.episode.messages)
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.ended = terminated or truncated
        self.masked, self.success = info["masked"], info["success"]
        if self.ended and not self.masked and knows_later(self._core.shaper):
            whole = self._in_hindsight()
            self.masked = whole is None
            reward = 0.0 if whole is None else whole - self.reward
        self.reward += reward
        return observation["messages"][seen + 1 :], reward  # the first one is the action itself

    def _in_hindsight(self) -> float | None:
        """Return what the whole episode is paid; None where some of it is missing."""
        (steps,) = label(self._core.shaper, [self.episode.transitions])
        paid = [sum(parts.values()) for parts in steps if parts is not None]
        return sum(paid) if len(paid) == len(steps) else None

    def turn(self, messages: Sequence[Message]) -> str:
        """Return what answers a text as one turn of the user, as this package's own policies read it: with the tools, where they have changed."""
        texts = [message.content if message.role == "user" else f"<tool_response>\n{message.content}\n</tool_response>" for message in messages]
        if isinstance(self.env, StepToolTextEnv) and (offered := self.episode.toolkit.schemas) != self._offered:
            self._offered = offered
            texts[-1] = f"{self.env.instructions()}\n\n{texts[-1]}"
        return "\n\n".join(texts)

    def leave(self, text: str = "") -> float:
        """End an episode that the other library does not go on with; return what its last step is paid, 0.0 if it had ended.

        Without ``finish`` there is no verdict, and a shaper that pays progress in advance would never be paid back: a model could earn by
        walking away. So the words without a call are a malformed step, and the last one that the budget allows.
        """
        if self.ended:
            return 0.0
        self._core.max_steps = len(self.episode) + 1
        # A form that takes text reads none as no call.
        return self.play("" if self.env is not self._core else Malformed(text, "the episode was left without a call of finish"))[1]
