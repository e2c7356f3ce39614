"""How fast is the bare environment? Steps per second on one core, with the cost of the tool itself set apart.

    python benchmarks/env_speed.py                 # levels 1 to 5
    python benchmarks/env_speed.py 2 --json        # one level; one JSON object

Plays the oracle's episodes on the suite ``worlds``. The clock runs in ``env.step`` only; resets and solutions are made
outside it, and resets are timed apart. "over the tool" is what a step costs beside ``toolkit.execute`` of the same
calls: reading the action, the transcript, the verdict, the reward, the info. Every figure is the median of the repeats,
in seconds of processor time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import gymnasium as gym

import steptool_env


def measure(level: int, episodes: int, repeats: int) -> dict[str, Any]:
    """Return the figures of one level."""
    env = gym.make("StepTool-v0", suite="worlds", level=level).unwrapped
    assert isinstance(env, steptool_env.StepToolEnv)
    _play(env, episodes)  # once without a clock: caches fill
    steps, resets, tools = zip(*(_play(env, episodes) for _ in range(repeats)), strict=True)
    step, reset, tool = (statistics.median(times) for times in (steps, resets, tools))
    return {
        "level": level,
        "steps_per_second": round(1 / step),
        "us_per_step": round(1e6 * step, 2),
        "us_over_the_tool": round(1e6 * (step - tool), 2),
        "us_per_reset": round(1e6 * reset, 1),
    }


def _play(env: steptool_env.StepToolEnv, episodes: int) -> tuple[float, float, float]:
    """Return seconds per step, per reset, and per bare execution of a tool."""
    clock = time.process_time  # what other processes take of the core does not count
    stepping = resetting = executing = 0.0
    count = 0
    for task in range(episodes):
        start = clock()
        env.reset(options={"task": task})
        resetting += clock() - start
        calls = env.solution()
        actions = [{"name": call.name, "arguments": dict(call.arguments)} for call in calls]
        count += len(calls)
        start = clock()
        for action in actions:
            env.step(action)
        stepping += clock() - start
        toolkit = env.suite.toolkit(env.task)
        start = clock()
        for call in calls:
            toolkit.execute(call)
        executing += clock() - start
    return stepping / count, resetting / episodes, executing / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("levels", type=int, nargs="*", default=[1, 2, 3, 4, 5], metavar="LEVEL", help="levels of worlds (default: 1 to 5)")
    parser.add_argument("--episodes", type=int, default=1000, help="episodes per repeat (default: 1000)")
    parser.add_argument("--repeats", type=int, default=5, help="repeats of which the median counts (default: 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    rows = [measure(level, arguments.episodes, arguments.repeats) for level in arguments.levels]
    if arguments.json:
        print(json.dumps({"benchmark": "env_speed", "episodes": arguments.episodes, "repeats": arguments.repeats, "results": rows}))
        return
    print("level   steps/s   µs/step   over the tool   µs/reset")
    for row in rows:
        print(f"{row['level']:>5} {row['steps_per_second']:>9,} {row['us_per_step']:>9.1f} {row['us_over_the_tool']:>15.1f} {row['us_per_reset']:>10.1f}")


if __name__ == "__main__":
    main()
