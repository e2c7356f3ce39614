"""Do slow tools run concurrently in a rollout? A batch of episodes, each of whose calls waits for a slow tool.

    python benchmarks/tool_latency.py                      # 64 episodes, 50 ms; writes benchmarks/results/

``rollout`` plays whole episodes with the suite's solutions. A batch step is what passes between two questions to the policy:
from the actions of all episodes to the next observations of all of them, shaper and bookkeeping included. With a policy that
streams, it is what passes between an action and the next observation of the same episode. Only steps count in which every
episode runs and calls a slow tool. The tools wait in ``FaultyToolkit(latency=…)``. For comparison, the same calls one after the
other. The exit status is 1 if the median batch step of either takes more than 150 ms.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from steptool_agents import Generation, OraclePolicy, rollout
from steptool_env import Observation, StepToolEnv, make_suite
from steptool_env.tasks.wrapped import WithTools
from steptool_env.tools.faults import FaultyToolkit

RESULTS = Path(__file__).parent / "results" / "tool_latency.md"
MOST = 0.150


class Batch(OraclePolicy):
    """The oracle, asked for all episodes at once; takes down the seconds of every batch step, and those that the process computed."""

    def __init__(self, episodes: int) -> None:
        self.episodes = episodes
        self.seconds: list[float] = []
        self.computed: list[float] = []
        self._answered = self._before = 0.0

    def act(self, observations: Sequence[Observation], envs: Sequence[StepToolEnv]) -> list[Generation]:
        if self._answered:
            self.seconds.append(time.perf_counter() - self._answered)
            self.computed.append(time.process_time() - self._before)
        generations = super().act(observations, envs)
        full = len(envs) == self.episodes and all(map(_slow, generations))
        self._answered, self._before = time.perf_counter() if full else 0.0, time.process_time()
        return generations


class Stream(OraclePolicy):
    """The oracle, asked for one episode at a time; takes down the seconds of every step of every episode."""

    def __init__(self, episodes: int) -> None:
        self.episodes = episodes
        self.seconds: list[float] = []
        self._running: set[int] = set()
        self._asked: list[tuple[StepToolEnv, Observation]] = []
        self._answered: dict[int, float] = {}

    def submit(self, observation: Observation, env: StepToolEnv) -> None:
        if (since := self._answered.pop(id(env), None)) is not None:
            self.seconds.append(time.perf_counter() - since)
        self._running.add(id(env))
        self._asked.append((env, observation))

    def poll(self) -> list[tuple[StepToolEnv, Generation]]:
        asked, self._asked = self._asked, []
        answers = [(env, self.act([observation], [env])[0]) for env, observation in asked]
        if len(self._running) == self.episodes:
            now = time.perf_counter()
            self._answered |= {id(env): now for env, generation in answers if _slow(generation)}
        return answers

    def leave(self, env: StepToolEnv) -> None:
        self._answered.pop(id(env), None)
        self._running.discard(id(env))


def _slow(generation: Generation) -> bool:
    return getattr(generation.action, "name", "finish") != "finish"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds that every call takes (default: 0.05)")
    parser.add_argument("--rounds", type=int, default=10, help="rollouts of each kind (default: 10)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    suite = WithTools(make_suite("worlds", level=3), lambda task, toolkit: FaultyToolkit(toolkit, latency=arguments.latency))
    envs = [StepToolEnv(suite) for _ in range(arguments.episodes)]
    batch, stream = Batch(arguments.episodes), Stream(arguments.episodes)
    policies: dict[str, Batch | Stream] = {"asked for all episodes at once": batch, "asked for one at a time (streams)": stream}
    loads = [os.getloadavg()[0]]
    for number in range(arguments.rounds):
        tasks = range(number * arguments.episodes, (number + 1) * arguments.episodes)
        for policy in policies.values():
            assert all(one.success == 1.0 for one in rollout(policy, envs, tasks))
        loads.append(os.getloadavg()[0])
    for index, env in enumerate(envs):
        env.reset(options={"task": index})
    calls = [env.solution()[0] for env in envs]
    started = time.perf_counter()
    for env, call in zip(envs, calls, strict=True):
        env.step(call)
    serial = time.perf_counter() - started
    failed = any(statistics.median(policy.seconds) > MOST for policy in policies.values())
    rows = [
        f"| {name} | {arguments.episodes} | {arguments.latency * 1e3:.0f} | {len(policy.seconds):,} | {statistics.median(policy.seconds) * 1e3:.0f} "
        f"| {statistics.quantiles(policy.seconds, n=20)[-1] * 1e3:.0f} | {max(policy.seconds) * 1e3:.0f} |"
        for name, policy in policies.items()
    ]
    command = " ".join(["python benchmarks/tool_latency.py", *sys.argv[1:]])
    text = (
        "# Slow tools run concurrently\n\n"
        f"Made by `{command}` on {os.cpu_count()} cores; load average {min(loads):.1f} to {max(loads):.1f} meanwhile: above the number\n"
        "of cores, others had a share of them, and the times are upper bounds. Whole episodes through `rollout` with the suite's solutions; from the\n"
        f"actions to the next observations. A batch step keeps this process busy for {statistics.median(batch.computed) * 1e3:.0f} ms (median); "
        f"the rest is waiting, for the tools and for a core.\nThe first call of every episode one after the other: {serial * 1e3:,.0f} ms. "
        f"A median of at most {MOST * 1e3:.0f} ms was {'not ' * failed}met in this run.\n\n"
        "| the policy is | episodes | tool, ms | steps measured | step, median ms | 95 % below, ms | worst ms |\n|---|---:|---:|---:|---:|---:|---:|\n"
        + "\n".join(rows)
        + "\n"
    )
    arguments.out.write_text(text, encoding="utf-8")
    print(text)
    sys.exit(failed)


if __name__ == "__main__":
    main()
