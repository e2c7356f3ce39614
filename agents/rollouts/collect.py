"""Rollouts: a batch of environments played by one policy. An environment that is done takes the next task at once.

Slow tools (those that may wait, ``Toolkit.may_wait``) run in threads, all at the same time. With a policy that streams
(``Streaming``), nobody waits for anybody: an action is executed as soon as it is written, slow tools run while the model writes for
the other episodes, and the next observation joins the batch when it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from steptool_env.env import StepToolEnv
from steptool_env.rewards import state_of
from steptool_env.types import Observation, ToolCall

from ..parallel.profiling import Profiler
from ..policies.base import Policy, Streaming
from ..trajectory import Generation, Step, Trajectory

__all__ = ["rollout"]


def rollout(
    policy: Policy,
    envs: Sequence[StepToolEnv],
    tasks: Sequence[int],
    *,
    on_done: Callable[[Trajectory], None] | None = None,
) -> list[Trajectory]:
    """Play one episode of every task and return the trajectories in the order of the tasks.

    Args:
        policy: What acts. It is asked for the actions of all running episodes together, or, if it streams, of each when it is ready.
        envs: Environments, as many as should run side by side.
        tasks: Indices into the environments' suite; the same index may stand several times.
        on_done: Called with each trajectory as it ends.
    """
    game = _Game(envs, tasks, on_done, getattr(policy, "profiler", None) or Profiler())
    # No thread begins before there is a step for it.
    with ThreadPoolExecutor(max_workers=min(len(envs) or 1, 64), thread_name_prefix="steptool-rollout") as pool:
        if isinstance(policy, Streaming):
            _stream(policy, game, pool)
        else:
            _play(policy, game, pool)
    return [trajectory for trajectory in game.done if trajectory is not None]


class _Game:
    """The episodes of a rollout."""

    def __init__(self, envs: Sequence[StepToolEnv], tasks: Sequence[int], on_done: Callable[[Trajectory], None] | None, profiler: Profiler) -> None:
        self.envs, self.tasks, self.on_done, self.profiler = envs, tasks, on_done, profiler
        self.done: list[Trajectory | None] = [None] * len(tasks)
        self.waiting = list(reversed(range(len(tasks))))
        self.running: dict[int, tuple[int, Observation, list[Step]]] = {}  # slot -> (place in tasks, observation, steps so far)
        # A shaper with a state of its own, such as running statistics, must see the steps one after the other.
        self.threads = bool(envs) and state_of(envs[0].shaper) is None
        for slot in range(len(envs)):
            self.start(slot)

    def start(self, slot: int) -> None:
        """Begin the next task in an environment, if there is one."""
        if self.waiting:
            place = self.waiting.pop()
            with self.profiler("tools"):
                observation, _ = self.envs[slot].reset(options={"task": self.tasks[place]})
            self.running[slot] = (place, observation, [])

    def apart(self, slot: int, generation: Generation) -> bool:
        """Return whether an action is to be executed in a thread."""
        return self.threads and _may_wait(self.envs[slot], generation)

    def step(self, slot: int, generation: Generation) -> Any:
        """Execute an action; may run in a thread, for different slots at once."""
        return self.envs[slot].step(generation.action)

    def record(self, slot: int, generation: Generation, outcome: Any) -> bool:
        """Take down what a step returned, and begin the next task if that was the last; return whether it was."""
        observation, _, terminated, truncated, info = outcome
        place, _, steps = self.running[slot]
        episode = self.envs[slot].episode
        assert episode is not None
        steps.append(Step(generation, episode[-1], info["reward_parts"], info["masked"]))
        self.running[slot] = (place, observation, steps)
        if not (terminated or truncated):
            return False
        del self.running[slot]
        trajectory = self.done[place] = Trajectory(tuple(steps))
        if self.on_done is not None:
            self.on_done(trajectory)
        self.start(slot)
        return True


def _may_wait(env: StepToolEnv, generation: Generation) -> bool:
    """Return whether an action calls a tool that may wait; any other is done before a thread would begin.

    The clock must not decide: who joins the batch when changes the last bits of sums.
    """
    call, episode = generation.action, env.episode
    return isinstance(call, ToolCall) and episode is not None and episode.toolkit.may_wait(call.name)


def _play(policy: Policy, game: _Game, pool: ThreadPoolExecutor) -> None:
    while game.running:
        slots = list(game.running)
        generations = dict(zip(slots, policy.act([game.running[slot][1] for slot in slots], [game.envs[slot] for slot in slots]), strict=True))
        with game.profiler("tools"):
            abroad = {slot: pool.submit(game.step, slot, one) for slot, one in generations.items() if game.apart(slot, one)}
            outcomes = {slot: game.step(slot, one) for slot, one in generations.items() if slot not in abroad}
            outcomes |= {slot: future.result() for slot, future in abroad.items()}
        for slot in slots:  # in order, whoever was first
            game.record(slot, generations[slot], outcomes[slot])


def _stream(policy: Streaming, game: _Game, pool: ThreadPoolExecutor) -> None:
    slots = {id(env): slot for slot, env in enumerate(game.envs)}
    abroad: dict[Future[Any], tuple[int, Generation]] = {}

    def back(slot: int, generation: Generation, outcome: Any) -> None:
        if game.record(slot, generation, outcome):
            policy.leave(game.envs[slot])
        if slot in game.running:
            policy.submit(game.running[slot][1], game.envs[slot])

    for slot, (_, observation, _) in list(game.running.items()):
        policy.submit(observation, game.envs[slot])
    while game.running:
        if len(abroad) == len(game.running):  # the model has nothing to do
            with game.profiler("tools"):
                wait(abroad, return_when=FIRST_COMPLETED)
        for future in [one for one in abroad if one.done()]:
            back(*abroad.pop(future), future.result())
        if len(abroad) == len(game.running):
            continue
        for env, generation in policy.poll():
            slot = slots[id(env)]
            if game.apart(slot, generation):
                abroad[pool.submit(game.step, slot, generation)] = (slot, generation)
                continue
            with game.profiler("tools"):
                outcome = game.step(slot, generation)
            back(slot, generation, outcome)
