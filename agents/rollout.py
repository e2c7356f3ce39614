"""Rollouts: a batch of environments played by one policy. An environment that is done takes the next task at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from steptool_env.env import StepToolEnv
from steptool_env.types import Observation

from .policy import Policy
from .trajectory import Step, Trajectory

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
        policy: What acts. It is asked for the actions of all running episodes together.
        envs: Environments, as many as should run side by side.
        tasks: Indices into the environments' suite; the same index may stand several times.
        on_done: Called with each trajectory as it ends.
    """
    done: list[Trajectory | None] = [None] * len(tasks)
    waiting = list(reversed(range(len(tasks))))
    running: dict[int, tuple[int, Observation, list[Step]]] = {}  # slot -> (place in tasks, observation, steps so far)

    def start(slot: int) -> None:
        if waiting:
            place = waiting.pop()
            observation, _ = envs[slot].reset(options={"task": tasks[place]})
            running[slot] = (place, observation, [])

    for slot in range(len(envs)):
        start(slot)
    while running:
        slots = list(running)
        generations = policy.act([running[slot][1] for slot in slots], [envs[slot] for slot in slots])
        for slot, generation in zip(slots, generations, strict=True):
            place, _, steps = running[slot]
            env = envs[slot]
            observation, _, terminated, truncated, info = env.step(generation.action)
            assert env.episode is not None
            steps.append(Step(generation, env.episode[-1], info["reward_parts"], info["masked"]))
            running[slot] = (place, observation, steps)
            if terminated or truncated:
                del running[slot]
                trajectory = done[place] = Trajectory(tuple(steps))
                if on_done is not None:
                    on_done(trajectory)
                start(slot)
    return [trajectory for trajectory in done if trajectory is not None]
