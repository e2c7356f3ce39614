"""``OtherForm``: what the other forms of the environment share. Each holds a ``StepToolEnv`` and converts actions and observations.

Such a form is an environment of its own and no ``gym.Wrapper``, so that ``env.unwrapped`` is what Gymnasium's checks, vector
environments and ``action_masks()`` see, and ``gym.make`` hands its keywords to one constructor.
"""

from __future__ import annotations

import abc
import copy
import dataclasses
from typing import Any, ClassVar, Generic, Self, TypeVar

import gymnasium as gym

from steptool_env.env import Snapshot, StepToolEnv
from steptool_env.errors import InvalidArgument
from steptool_env.rewards import RewardShaper
from steptool_env.tasks import Episode, TaskSuite
from steptool_env.types import Observation, Task, ToolCall

__all__ = ["OtherForm"]

ObsType = TypeVar("ObsType")
ActType = TypeVar("ActType")


class OtherForm(gym.Env[ObsType, ActType], abc.ABC, Generic[ObsType, ActType]):
    """A ``StepToolEnv`` with other actions and observations; everything else is handed on to it.

    A form says in ``_convert_action`` what an action means to the core, and in ``_convert_observation``
    what the agent sees of the core's observation.
    """

    metadata: ClassVar[dict[str, Any]] = StepToolEnv.metadata  # type: ignore[misc]  # Gymnasium does not say ClassVar

    def __init__(self, suite: str | TaskSuite, shaper: str | RewardShaper, *, max_steps: int | None, render_mode: str | None, **suite_options: Any) -> None:
        self.core = StepToolEnv(suite, shaper, max_steps=max_steps, render_mode=render_mode, **suite_options)
        self.render_mode = render_mode
        self._prints, self.core._prints = self.core._prints, False  # this form prints after it has added its own text to the transcript

    # ---------------------------------------------------------------- what a form defines
    @abc.abstractmethod
    def _convert_action(self, action: Any) -> Any:
        """Return what the core takes."""

    @abc.abstractmethod
    def _convert_observation(self, observation: Observation, info: dict[str, Any]) -> ObsType:
        """Return the observation of this form; further entries of ``info`` are added in place."""

    @abc.abstractmethod
    def _fresh(self) -> Self:
        """Return a fresh environment with the same arguments and the same suite and shaper."""

    def _form_state(self) -> Any:
        """Return what this form keeps in addition to the core, for snapshots."""
        return None

    def _restore_form_state(self, memory: Any) -> None:
        """Take back what ``_form_state`` returned; called after the core was restored."""

    # ---------------------------------------------------------------- the Gymnasium API
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[ObsType, dict[str, Any]]:
        """Start an episode; arguments as in ``StepToolEnv.reset``."""
        observation, info = self.core.reset(seed=seed, options=options)
        self._np_random, self._np_random_seed = self.core.np_random, self.core._np_random_seed  # one generator, wherever it is asked for
        converted = self._convert_observation(observation, info)
        if self._prints:
            self._print(info)
        return converted, info

    def step(self, action: Any) -> tuple[ObsType, float, bool, bool, dict[str, Any]]:
        """Execute one action; an impossible one is answered by an error observation, as in ``StepToolEnv``."""
        observation, reward, terminated, truncated, info = self.core.step(self._convert_action(action))
        converted = self._convert_observation(observation, info)
        if self._prints:
            self._print(info)
        return converted, reward, terminated, truncated, info

    def _print(self, info: dict[str, Any]) -> None:
        if info["tool_error"] != "over_budget":
            self.core._print()

    def render(self) -> Any:
        """Return the same as ``StepToolEnv.render``."""
        return self.core.render()

    def _repr_html_(self) -> str:
        return self.core._repr_html_()

    def close(self) -> None:
        """Close the environment within."""
        self.core.close()

    # ---------------------------------------------------------------- beyond Gymnasium
    @property
    def suite(self) -> TaskSuite:
        """The suite."""
        return self.core.suite

    @property
    def shaper(self) -> RewardShaper:
        """The shaper."""
        return self.core.shaper

    @property
    def max_steps(self) -> int | None:
        """The budget that overrides those of the tasks."""
        return self.core.max_steps

    @property
    def episode(self) -> Episode | None:
        """The episode so far."""
        return self.core.episode

    @property
    def task(self) -> Task:
        """The current task; raises ``ResetNeeded`` before the first reset."""
        return self.core.task

    def solution(self) -> list[ToolCall]:
        """Return the calls that solve the task from here; raises ``NotSupported`` where the suite knows none."""
        return self.core.solution()

    def snapshot(self) -> Snapshot:
        """Return the exact state, random generators included; raises ``NotSupported`` where ``suite.can_snapshot`` is False."""
        return dataclasses.replace(self.core.snapshot(), form=copy.deepcopy((self.action_space.np_random.bit_generator.state, self._form_state())))

    def restore(self, snapshot: Snapshot) -> None:
        """Return to a state from ``snapshot`` of an environment of the same form."""
        if snapshot.form is None:
            raise InvalidArgument(f"the snapshot is one of StepTool-v0; {type(self).__name__} takes those of its own form")
        self.core.restore(snapshot)
        self._np_random, self._np_random_seed = self.core.np_random, self.core._np_random_seed
        self.action_space.np_random.bit_generator.state, memory = copy.deepcopy(snapshot.form)
        self._restore_form_state(memory)

    def fork(self) -> Self:
        """Return a second environment in the same state; the two do not affect each other."""
        twin = self._fresh()
        twin.spec = twin.core.spec = self.spec
        twin.restore(self.snapshot())
        return twin
