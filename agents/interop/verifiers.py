"""Any suite as an environment of verifiers; rewards by any shaper.

verifiers finds plugins by the name of a top-level module, so a file of your own says where this one is, and its name is the task set's id:

    # steptool_worlds.py
    from steptool_agents.interop.verifiers import *
    from steptool_agents.interop.verifiers import __all__

The model's text is read by a call format, and results come back as turns of the user. The trace has the sum of the rewards as ``steptool``, and
the metrics ``success`` and ``steps``. An episode whose infrastructure failed is an error of verifiers: it can be tried again, and has no reward.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from steptool_env.errors import Unavailable, missing_extra
from steptool_env.wrappers import StepToolTextEnv

from .visit import Visit

try:
    import verifiers.v1 as vf
except ImportError as fault:
    raise missing_extra("an environment of verifiers", fault, "verifiers") from fault

__all__ = ["StepToolEnvironment", "StepToolTaskset"]


class SuiteConfig(vf.TasksetConfig):  # type: ignore[misc]  # the package has no types
    """Which suite is played, and how."""

    suite: str = "worlds"
    """Name of a suite, ``package.module:Class``, or a file."""
    shaper: str = "steptool"
    """Name of a shaper, or where it is."""
    call_format: str = "hermes"
    """How the model writes calls; the system prompt teaches it."""
    options: dict[str, Any] = {}  # noqa: RUF012  # pydantic copies it
    """Further keywords of ``StepToolTextEnv``: ``max_steps``, and those of the suite."""


class SuiteData(vf.TaskData):  # type: ignore[misc]
    """A task, as it stands in traces."""

    task: int
    """Its index in the suite."""


class SuiteTask(vf.Task[SuiteData]):  # type: ignore[misc]
    """A task; its verdict belongs to the suite."""


class StepToolTaskset(vf.Taskset[SuiteTask, SuiteConfig]):  # type: ignore[misc]
    """The tasks of a suite."""

    def __init__(self, config: SuiteConfig) -> None:
        super().__init__(config)
        self.source = StepToolTextEnv(config.suite, config.shaper, call_format=config.call_format, **config.options)
        """Has the suite; every episode plays in a fresh environment like it."""

    def load(self) -> Iterator[SuiteTask]:
        """Yield the tasks in the order of the suite, each with the tools that it begins with in the system prompt."""
        env = self.source._fresh()
        for index in range(len(env.suite)):
            observation, info = env.reset(options={"task": index})
            (message,) = observation["messages"]
            yield SuiteTask(SuiteData(id=info["task_id"], task=index, prompt=message.content, system_prompt=env.instructions()), self.config.task)


class PlayerConfig(vf.EnvConfig):  # type: ignore[misc]
    """Who plays: ``null`` is the harness for models that write their calls as text."""

    player: vf.AgentConfig = vf.AgentConfig()


class StepToolEnvironment(vf.Env[PlayerConfig]):  # type: ignore[misc]
    """The environment answers as the user; the exchange ends with the episode."""

    async def run(self, task: SuiteTask, agents: Any) -> None:
        """Play one episode; raises ``Unavailable`` where its infrastructure failed."""
        visit = Visit(self.taskset.source._fresh())
        visit.start(task.data.task)
        async with agents.player.interaction(task) as interaction:
            segment = await interaction.turn()
            while not segment.terminated:
                messages, _ = await asyncio.to_thread(visit.play, segment.last_reply)
                if visit.ended:
                    break
                segment = await interaction.turn(visit.turn(messages))
            visit.leave()  # a limit of verifiers has ended it
        if visit.masked:
            raise Unavailable(f"task {task.data.id!r}: {visit.episode[-1].result.content}")
        interaction.trace.record_reward("steptool", visit.reward)
        interaction.trace.record_metrics({"success": visit.success, "steps": float(len(visit.episode))})
