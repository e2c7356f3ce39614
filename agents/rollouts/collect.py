"""Rollouts: one policy plays a batch of environments. An environment that is done takes the next task at once.

Slow tools (those that may wait, ``Toolkit.may_wait``) run concurrently in threads. With a policy that streams (``Streaming``), no
episode waits for another: an action is executed as soon as it is written, slow tools run while the model writes for the other
episodes, and the next observation joins the batch when it arrives.
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
        policy: Chooses the actions of all running episodes together, or, if it streams, of each episode when it is ready.
        envs: Environments, as many as should run in parallel.
        tasks: Indices into the environments' suite; an index may occur several times.
        on_done: Called with each trajectory as it ends.
    """
    batch = _Batch(envs, tasks, on_done, getattr(policy, "profiler", None) or Profiler())
    # Threads start only when there is a step for them.
    with ThreadPoolExecutor(max_workers=min(len(envs) or 1, 64), thread_name_prefix="steptool-rollout") as pool:
        if isinstance(policy, Streaming):
            _stream(policy, batch, pool)
        else:
            _play(policy, batch, pool)
    return [trajectory for trajectory in batch.done if trajectory is not None]


class _Batch:
    """The episodes of a rollout."""

    def __init__(self, envs: Sequence[StepToolEnv], tasks: Sequence[int], on_done: Callable[[Trajectory], None] | None, profiler: Profiler) -> None:
        self.envs, self.tasks, self.on_done, self.profiler = envs, tasks, on_done, profiler
        self.done: list[Trajectory | None] = [None] * len(tasks)
        self.waiting = list(reversed(range(len(tasks))))
        self.running: dict[int, tuple[int, Observation, list[Step]]] = {}  # slot -> (position in tasks, observation, steps so far)
        # A shaper with a state, such as running statistics, must see the steps one after the other.
        self.threads = bool(envs) and state_of(envs[0].shaper) is None
        for slot in range(len(envs)):
            self.start(slot)

    def start(self, slot: int) -> None:
        """Begin the next task in an environment, if there is one."""
        if self.waiting:
            position = self.waiting.pop()
            with self.profiler("tools"):
                observation, _ = self.envs[slot].reset(options={"task": self.tasks[position]})
            self.running[slot] = (position, observation, [])

    def in_thread(self, slot: int, generation: Generation) -> bool:
        """Return whether an action is executed in a thread."""
        return self.threads and _may_wait(self.envs[slot], generation)

    def step(self, slot: int, generation: Generation) -> Any:
        """Execute an action; may run in a thread, for different slots at once."""
        return self.envs[slot].step(generation.action)

    def record(self, slot: int, generation: Generation, outcome: Any) -> bool:
        """Record what a step returned; if the episode has ended, begin the next task. Return whether it has ended."""
        observation, _, terminated, truncated, info = outcome
        position, _, steps = self.running[slot]
        episode = self.envs[slot].episode
        assert episode is not None
        steps.append(Step(generation, episode[-1], info["reward_parts"], info["masked"]))
        self.running[slot] = (position, observation, steps)
        if not (terminated or truncated):
            return False
        del self.running[slot]
        trajectory = self.done[position] = Trajectory(tuple(steps))
        if self.on_done is not None:
            self.on_done(trajectory)
        self.start(slot)
        return True


def _may_wait(env: StepToolEnv, generation: Generation) -> bool:
    """Return whether an action calls a tool that may wait; any other is done before a thread would start.

    This must not depend on timing: which episodes share a batch changes the last bits of sums.
    """
    call, episode = generation.action, env.episode
    return isinstance(call, ToolCall) and episode is not None and episode.toolkit.may_wait(call.name)


def _play(policy: Policy, batch: _Batch, pool: ThreadPoolExecutor) -> None:
    while batch.running:
        slots = list(batch.running)
        generations = dict(zip(slots, policy.act([batch.running[slot][1] for slot in slots], [batch.envs[slot] for slot in slots]), strict=True))
        with batch.profiler("tools"):
            pending = {slot: pool.submit(batch.step, slot, generation) for slot, generation in generations.items() if batch.in_thread(slot, generation)}
            outcomes = {slot: batch.step(slot, generation) for slot, generation in generations.items() if slot not in pending}
            outcomes |= {slot: future.result() for slot, future in pending.items()}
        for slot in slots:  # in the order of the slots, whichever step was done first
            batch.record(slot, generations[slot], outcomes[slot])


def _stream(policy: Streaming, batch: _Batch, pool: ThreadPoolExecutor) -> None:
    slots = {id(env): slot for slot, env in enumerate(batch.envs)}
    pending: dict[Future[Any], tuple[int, Generation]] = {}

    def finish_step(slot: int, generation: Generation, outcome: Any) -> None:
        if batch.record(slot, generation, outcome):
            policy.leave(batch.envs[slot])
        if slot in batch.running:
            policy.submit(batch.running[slot][1], batch.envs[slot])

    for slot, (_, observation, _) in list(batch.running.items()):
        policy.submit(observation, batch.envs[slot])
    while batch.running:
        if len(pending) == len(batch.running):  # the model has nothing to do
            with batch.profiler("tools"):
                wait(pending, return_when=FIRST_COMPLETED)
        for future in [future for future in pending if future.done()]:
            finish_step(*pending.pop(future), future.result())
        if len(pending) == len(batch.running):
            continue
        for env, generation in policy.poll():
            slot = slots[id(env)]
            if batch.in_thread(slot, generation):
                pending[pool.submit(batch.step, slot, generation)] = (slot, generation)
                continue
            with batch.profiler("tools"):
                outcome = batch.step(slot, generation)
            finish_step(slot, generation, outcome)
