"""Any suite as an environment of OpenEnv, behind its server or without one; rewards by any shaper.

    app = create_app(environments("worlds", level=1), CallAction, CallObservation, max_concurrent_envs=64)     # openenv.core.create_app
    result = GenericEnvClient(base_url=...).sync().reset(task=17)

An action is a call, ``{"name": …, "arguments": {…}}``: what is none is answered by an error, and never refused by the server.
An observation has the messages that came in since the last action, the tools where they are new, and the reward of the step. The step in
which the infrastructure failed has the reward None.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pydantic import Field, model_validator

from steptool_env import RewardShaper, StepToolEnv, TaskSuite, as_chat
from steptool_env.errors import missing_extra

from .visit import Visit

try:
    from openenv.core.env_server.interfaces import Environment
    from openenv.core.env_server.types import Action, Observation, State
except ImportError as fault:
    raise missing_extra("an environment of OpenEnv", fault, "openenv") from fault

__all__ = ["CallAction", "CallObservation", "OpenEnvironment", "environments"]


class CallAction(Action):  # type: ignore[misc]  # the package has no types
    """A call of a tool, given as ``call``, or by its ``name`` and ``arguments`` alone."""

    call: Any = Field(description="An object with the name of a tool on offer and its arguments. Anything else is answered by an error.")

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, given: Any) -> Any:
        return given if isinstance(given, dict) and "call" in given else {"call": given}


class CallObservation(Observation):  # type: ignore[misc]
    """What came in since the last action."""

    messages: list[dict[str, str]] = Field(description="With role and content: the task at first, then the results of tools.")
    tools: list[dict[str, Any]] | None = Field(default=None, description="Function schemas of the tools on offer, where they have changed.")


class OpenEnvironment(Environment):  # type: ignore[misc]
    """One episode after the other. Several may run at once: nothing is shared but the suite, which no episode changes.

    Args:
        env: The environment behind it.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, env: StepToolEnv) -> None:
        super().__init__()
        self._visit = Visit(env)
        self._offered = ""
        self._episode_id: str | None = None

    def reset(self, seed: int | None = None, episode_id: str | None = None, task: int | str | None = None, **_: Any) -> CallObservation:
        """Start an episode.

        Args:
            seed: Draws the task.
            episode_id: Comes back in ``state``.
            task: Index or id of the task, instead.
        """
        observation = self._visit.start(task, seed=seed)
        self._episode_id, self._offered = episode_id, observation["tools"]
        return CallObservation(messages=as_chat(observation["messages"]), tools=json.loads(self._offered), metadata={"task_id": self._visit.episode.task.id})

    def step(self, action: CallAction, timeout_s: float | None = None, **_: Any) -> CallObservation:
        """Execute a call; tools have time limits of their own."""
        visit = self._visit
        messages, reward = visit.play(action.call)
        offered, self._offered = self._offered, visit.episode.toolkit.schemas
        return CallObservation(
            messages=as_chat(messages),
            tools=json.loads(self._offered) if self._offered != offered else None,
            reward=None if visit.masked else reward,
            done=visit.ended,
            metadata={"success": visit.success, "masked": visit.masked, "tool_error": visit.episode[-1].result.error},
        )

    @property
    def state(self) -> State:
        """Where the episode stands: ``episode_id``, ``step_count``, and the sum of its rewards, ``total_reward``."""
        if self._visit.env.episode is None:
            return State()
        return State(episode_id=self._episode_id, step_count=len(self._visit.episode), task_id=self._visit.episode.task.id, total_reward=self._visit.reward)


def environments(suite: str | TaskSuite = "worlds", *, shaper: str | RewardShaper = "steptool", **options: Any) -> Callable[[], OpenEnvironment]:
    """Return what makes environments of a suite, as OpenEnv's server takes it.

    Args:
        suite: A name, or a suite.
        shaper: A name, or a callable.
        options: Of ``StepToolEnv``: ``max_steps=``, and those of the suite when it is given by name.
    """
    first = StepToolEnv(suite, shaper, **options)
    return lambda: OpenEnvironment(StepToolEnv(first.suite, first.shaper, max_steps=first.max_steps))
