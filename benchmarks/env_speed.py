"""How fast is the bare environment? Beside its peers on a tool that does nothing, on ``worlds``, and as episodes get long.

    python benchmarks/env_speed.py                   # without the peers that are not installed
    python benchmarks/env_speed.py --peers FOLDER    # installs gem-llm and skyrl-gym into a folder of their own, unless they are there
    python benchmarks/env_speed.py 3 --json          # one level; one JSON object
    python benchmarks/env_speed.py --against FOLDER  # nothing but the ratio to another version, whose checkout lies in the folder

What is timed is short, and of many times a low one counts: what the code takes while nothing else has the core.

- *A tool that returns a word.* Every environment parses or takes one call, runs the same tool, and returns an observation; see
  ``env_players.py``. Episodes of ten steps; the tenth percentile of their times. The environments take turns, so that a slow minute
  hits all of them.
- *worlds*: the oracle's episodes, of each the best of the repeats. "over the tool" is what a step costs beside ``toolkit.execute`` of the same calls.
- *over the raw tool*: each step against the bare Python function behind its tool, called directly; the median of all steps.
- *Long episodes*: the same call 200 times; the cost of the first and of the last twenty steps.

Where a step's time goes: ``step_parts.py``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
from env_players import CALL, PLAYERS, Idle, Player
from versions import ratios, table

import steptool_env

LENGTH = 10
"""Steps of an episode with the tool that does nothing."""


# ---------------------------------------------------------------- a tool that returns a word
def compare(episodes: int, repeats: int) -> list[dict[str, Any]]:
    """Return the figures of every environment that is installed."""
    rows: list[dict[str, Any]] = []
    players: dict[str, Player] = {}
    for name, make in PLAYERS.items():
        try:
            players[name] = make()
        except ImportError as fault:
            rows.append({"environment": name, "missing": str(fault)})
    return [*({"environment": name, "us_per_step": round(us, 2)} for name, us in in_turns(players, episodes, repeats).items()), *rows]


def in_turns(players: dict[str, Player], episodes: int, repeats: int) -> dict[str, float]:
    """Return the microseconds that a step of each player takes; they take turns, ``repeats`` times."""
    times: dict[str, list[float]] = {name: [] for name in players}
    for _ in range(repeats):
        for name, (reset, step) in players.items():
            for episode in range(episodes):
                reset()
                seconds = _ten(step)
                if episode > episodes // 10:  # caches fill, and branches learn
                    times[name].append(seconds)
    return {name: 1e6 * statistics.quantiles(found, n=10)[0] / LENGTH for name, found in times.items()}


def _ten(step: Callable[[], object]) -> float:
    """Return the seconds of ten steps, written out: a loop would be a tenth of what the fastest of them takes."""
    clock = time.perf_counter
    start = clock()
    step(), step(), step(), step(), step(), step(), step(), step(), step(), step()
    return clock() - start


# ---------------------------------------------------------------- another version
def own(episodes: int) -> dict[str, float]:
    """Return the figures of the version that is imported here: one side of a pair."""
    players = {name: make() for name, make in PLAYERS.items() if name.startswith("StepTool")}
    env = gym.make("StepTool-v0", suite="worlds", level=3).unwrapped
    assert isinstance(env, steptool_env.StepToolEnv)
    return {**in_turns(players, episodes, 3), "worlds, level 3": 1e6 * _play(env, min(100, episodes), 10)[0]}


# ---------------------------------------------------------------- worlds
def measure(level: int, episodes: int, repeats: int) -> dict[str, Any]:
    """Return the figures of one level."""
    env = gym.make("StepTool-v0", suite="worlds", level=level).unwrapped
    assert isinstance(env, steptool_env.StepToolEnv)
    step, reset, bare = _play(env, episodes, repeats)
    return {
        "level": level,
        "steps_per_second": round(1 / step),
        "us_per_step": round(1e6 * step, 2),
        "us_over_the_tool": round(1e6 * (step - bare), 2),
        "median_us_over_the_raw_tool": round(1e6 * _over_the_raw_tool(env, episodes // 4), 2),
        "us_per_reset": round(1e6 * reset, 1),
    }


def _play(env: steptool_env.StepToolEnv, episodes: int, repeats: int) -> tuple[float, float, float]:
    """Return seconds per step, per reset, and per bare execution of a tool: the mean over the episodes, of the best that each took in a repeat."""
    clock = time.perf_counter
    count = 0
    best = [(float("inf"),) * 3] * episodes
    for repeat in range(repeats + 1):
        for task in range(episodes):
            start = clock()
            env.reset(options={"task": task})
            resetting = clock() - start
            calls = env.solution()
            actions = [call.as_dict() for call in calls]
            start = clock()
            for action in actions:
                env.step(action)
            stepping = clock() - start
            toolkit = env.suite.toolkit(env.task)
            start = clock()
            for call in calls:
                toolkit.execute(call)
            executing = clock() - start
            if repeat:  # the first one fills caches
                before = best[task]
                best[task] = min(before[0], stepping), min(before[1], resetting), min(before[2], executing)
            else:
                count += len(calls)
    step, reset, tool = (sum(column) for column in zip(*best, strict=True))
    return step / count, reset / episodes, tool / count


def _over_the_raw_tool(env: steptool_env.StepToolEnv, episodes: int) -> float:
    """Return the median over all steps of: seconds of ``env.step``, less those of the Python function behind the tool."""
    clock = time.perf_counter  # fine enough for one step; the median is deaf to interruptions
    differences = []
    for task in range(episodes):
        env.reset(options={"task": task})
        twin = env.suite.toolkit(env.task)
        for call in env.solution():
            one, arguments = twin[call.name], dict(call.arguments)
            action = {"name": call.name, "arguments": arguments}
            start = clock()
            env.step(action)
            middle = clock()
            if one.stateful:
                one.function(twin.state, **arguments)
            else:
                one.function(**arguments)
            differences.append((middle - start) - (clock() - middle))
    return statistics.median(differences)


def long_episode(repeats: int) -> dict[str, float]:
    """Return the median cost of a step at the beginning and at the end of an episode of 200 steps, in microseconds."""
    env = gym.make("StepTool-v0", suite=Idle(), max_steps=200).unwrapped
    clock = time.perf_counter
    first: list[float] = []
    last: list[float] = []
    for _ in range(max(20, 4 * repeats)):
        env.reset(seed=0)
        times = []
        for _ in range(200):
            start = clock()
            env.step(CALL)
            times.append(clock() - start)
        first += times[5:25]
        last += times[179:199]
    return {"us_steps_6_to_25": round(1e6 * statistics.median(first), 2), "us_steps_180_to_199": round(1e6 * statistics.median(last), 2)}


def install_peers(folder: Path) -> None:
    """Install the peers into a folder, without what they depend on, and have Python look there last."""
    if not (folder / "gem").is_dir() or not (folder / "skyrl_gym").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), "gem-llm", "skyrl-gym"]
        subprocess.run(command, check=True)
    sys.path.append(str(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("levels", type=int, nargs="*", default=[1, 2, 3, 4, 5], metavar="LEVEL", help="levels of worlds (default: 1 to 5)")
    parser.add_argument("--episodes", type=int, default=1000, help="episodes per repeat (default: 1000)")
    parser.add_argument("--repeats", type=int, default=5, help="repeats, or pairs of processes with --against (default: 5)")
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help="where gem-llm and skyrl-gym are, or are installed")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="a checkout of another version: print ratios to it, and nothing else")
    parser.add_argument("--own", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    if arguments.own:
        print(json.dumps(own(arguments.episodes)))
        return
    if arguments.against:
        rows = ratios(__file__, ["--own", "--episodes", str(arguments.episodes)], arguments.against, arguments.repeats)
        print(json.dumps({"benchmark": "env_speed", "pairs": arguments.repeats, "ratios": rows}) if arguments.json else table(rows, "µs"))
        return
    if arguments.peers:
        install_peers(arguments.peers)
    peers = compare(arguments.episodes, arguments.repeats)
    rows = [measure(level, arguments.episodes, arguments.repeats) for level in arguments.levels]
    lengths = long_episode(arguments.repeats)
    if arguments.json:
        shared = {"benchmark": "env_speed", "episodes": arguments.episodes, "repeats": arguments.repeats}
        print(json.dumps({**shared, "results": rows, "peers": peers, "long_episodes": lengths}))
        return
    print("a tool that returns a word          µs/step   steps/s")
    for row in peers:
        figures = f"{row['us_per_step']:>9.2f} {1e6 / row['us_per_step']:>9,.0f}" if "us_per_step" in row else f"  left out: {row['missing']}"
        print(f"{row['environment']:<33} {figures}")
    print("\nworlds  steps/s   µs/step   over the tool   over the raw tool, median   µs/reset")
    for row in rows:
        figures = f"{row['steps_per_second']:>9,} {row['us_per_step']:>9.1f} {row['us_over_the_tool']:>15.1f}"
        print(f"{row['level']:>5} {figures} {row['median_us_over_the_raw_tool']:>27.1f} {row['us_per_reset']:>10.1f}")
    print(f"\nepisode of 200 steps: {lengths['us_steps_6_to_25']} µs a step at its beginning, {lengths['us_steps_180_to_199']} µs at its end")


if __name__ == "__main__":
    main()
