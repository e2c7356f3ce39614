"""Do slow tools run concurrently? A batch of episodes, each of whose calls waits for a slow tool.

    python benchmarks/tool_latency.py                      # 64 episodes, 50 ms, threads over env.step; writes benchmarks/results/

Every environment takes one step, all at the same time, through a pool of threads; that is one batch step. The tools wait in
``FaultyToolkit(latency=…)``. The same is measured one after the other, for comparison. The exit status is 1 if the median
batch step takes more than 150 ms.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from steptool_env import StepToolEnv, make_suite
from steptool_env.tasks.wrapped import WithTools
from steptool_env.tools.faults import FaultyToolkit

RESULTS = Path(__file__).parent / "results" / "tool_latency.md"
MOST = 0.150


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds that every call takes (default: 0.05)")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    suite = WithTools(make_suite("worlds", level=3), lambda task, toolkit: FaultyToolkit(toolkit, latency=arguments.latency))
    envs = [StepToolEnv(suite) for _ in range(arguments.episodes)]
    batch: list[float] = []
    with ThreadPoolExecutor(arguments.episodes) as pool:
        for number in range(arguments.rounds):
            for index, env in enumerate(envs):
                env.reset(options={"task": number * arguments.episodes + index})
            calls = [env.solution()[0] for env in envs]
            started = time.perf_counter()
            list(pool.map(lambda pair: pair[0].step(pair[1]), zip(envs, calls, strict=True)))
            batch.append(time.perf_counter() - started)
    for index, env in enumerate(envs):
        env.reset(options={"task": index})
    calls = [env.solution()[0] for env in envs]
    started = time.perf_counter()
    for env, call in zip(envs, calls, strict=True):
        env.step(call)
    serial = time.perf_counter() - started
    median, worst = statistics.median(batch), max(batch)
    text = (
        "# Slow tools run concurrently\n\n"
        "Made by `python benchmarks/tool_latency.py`. One step of every episode at the same time, a pool of threads over `env.step`.\n\n"
        "| episodes | tool, ms | batch step, median ms | worst ms | one after the other, ms |\n|---:|---:|---:|---:|---:|\n"
        f"| {arguments.episodes} | {arguments.latency * 1e3:.0f} | {median * 1e3:.0f} | {worst * 1e3:.0f} | {serial * 1e3:.0f} |\n"
    )
    arguments.out.write_text(text, encoding="utf-8")
    print(text)
    sys.exit(median > MOST)


if __name__ == "__main__":
    main()
