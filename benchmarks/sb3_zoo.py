"""Can classic reinforcement learning play multi-step tool use? Stock agents and policies over rows on StepToolDiscrete-v0.

    python benchmarks/sb3_zoo.py                    # everything, three seeds; writes benchmarks/results/sb3_zoo.md
    python benchmarks/sb3_zoo.py --only stock-maskable-ppo --seeds 0 --seconds 120

stock-maskable-ppo, stock-ppo: ``MlpPolicy`` of sb3-contrib and stable-baselines3 on ``gym.make("StepToolDiscrete-v0")`` as it
is, with all families and domains of level 1. single-file-ppo: ``single_file_ppo.py``, in the manner of CleanRL, on the same.
rows-…: policies that score every action by its row, ``observation="rows"``, on lookups and changes in the domains clinic,
shop and travel, which are what the catalog of rows can solve.

Each agent trains on the tasks of the split "train" until its success over 200 episodes, exploration included, reaches 0.96
(stock-ppo: 0.95, rows: 0.98), or until the processor time or the steps are used up; it then plays tasks of both splits, greedily,
without further learning. Runs are kept, one line each, and not repeated,
unless they ended at another success than such runs do now.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from single_file_ppo import train as train_single_file
from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from steptool_agents.interop.sb3 import SB3_ALGORITHMS, STOCK_ALGORITHMS, SuccessCallback, evaluate, make_envs, make_model

RESULTS = Path(__file__).parent / "results" / "sb3_zoo.md"
ROWS: dict[str, Any] = {"observation": "rows", "families": ("lookup", "change"), "domains": ("shop", "travel", "clinic")}
"""The tasks of ``worlds`` level 1 whose calls take one value each."""
AGENTS = (*(f"stock-{name}" for name in STOCK_ALGORITHMS), "single-file-ppo", *(f"rows-{name}" for name in SB3_ALGORITHMS))
STOP_AT = {agent: 0.98 if agent.startswith("rows-") else 0.95 if agent == "stock-ppo" else 0.96 for agent in AGENTS}
"""Agent -> the success at which its training ends."""
SOLVABLE = 100
"""Tasks of each level on which it is counted what the actions can solve."""


class Deadline(BaseCallback):
    """Ends training after so many seconds of processor time."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.end = time.process_time() + seconds

    def _on_step(self) -> bool:
        return time.process_time() < self.end


def measure(agent: str, seed: int, seconds: float, steps: int, episodes: int) -> dict[str, Any]:
    """Train one agent and return its figures."""
    options: dict[str, Any] = {"suite": "worlds", "level": 1, **(ROWS if agent.startswith("rows-") else {})}
    stop_at = STOP_AT[agent]
    start, used = time.monotonic(), time.process_time()
    play: Callable[[str], dict[str, float]]
    if agent == "single-file-ppo":
        single, played = train_single_file(options, seed, seconds, steps, stop_at)
        play = lambda split: _play(single, episodes, {**options, "split": split})  # noqa: E731
    else:
        model = make_model(agent.partition("-")[2], make_envs(8 if agent.startswith("rows-") else 16, seed=seed, **options), seed=seed)
        model.learn(steps, callback=CallbackList([SuccessCallback(stop_at=stop_at), Deadline(seconds)]))
        played = model.num_timesteps
        play = lambda split: evaluate(model, episodes, split=split, **options)  # noqa: E731
    trained = {"seconds": round(time.monotonic() - start, 1), "cpu_seconds": round(time.process_time() - used, 1), "steps": played}
    return {"agent": agent, "seed": seed, "stop_at": stop_at, **trained, "train": play("train"), "test": play("test")}


def _play(agent: Any, episodes: int, options: dict[str, Any]) -> dict[str, float]:
    env = gym.make("steptool_env:StepToolDiscrete-v0", **options)
    successes, returns, steps = [], [], []
    for task in range(episodes):
        (observation, info), total, count, over = env.reset(options={"task": task}), 0.0, 0, False
        while not over:
            observation, reward, terminated, truncated, info = env.step(agent.act(observation, info["action_mask"].astype(bool)))
            total, count, over = total + float(reward), count + 1, terminated or truncated
        successes.append(info["success"])
        returns.append(total)
        steps.append(count)
    return {name: statistics.mean(values) for name, values in (("success", successes), ("return", returns), ("steps", steps))}


def solvable(observation: str, level: int, tasks: int) -> float:
    """Return the share of the first held-out tasks of which every step of the solution is among the actions."""
    env: Any = gym.make("steptool_env:StepToolDiscrete-v0", observation=observation, level=level, split="test").unwrapped
    solved = 0
    for task in range(tasks):
        env.reset(options={"task": task})
        over, info = False, {"success": 0.0}
        while not over and (action := env.index(env.solution()[0])) is not None:
            *_, terminated, truncated, info = env.step(action)
            over = terminated or truncated
        solved += info["success"] == 1.0
    return solved / tasks


def page(rows: list[dict[str, Any]], episodes: int) -> str:
    """Return the tables as Markdown."""
    command = shlex.join(["python", "benchmarks/sb3_zoo.py", *(argument for argument in sys.argv[1:] if argument != "--page-only")])
    lines = [
        "# Classic algorithms on StepToolDiscrete-v0",
        "",
        f"Made by `{command}`, torch with one thread. Success is the share of {episodes} tasks solved by the greedy policy; tasks of the split test are",
        "never trained on. Seconds are of processor time, that is of one core to itself: the machine was shared. Training ends at the success over 200",
        "episodes, exploration included, that the third column gives.",
    ]
    titles = {
        False: "## Stock agents: `gym.make(\"StepToolDiscrete-v0\")`, level 1 with all its families and domains",
        True: "## Policies over rows: `observation=\"rows\"`, level 1, lookups and changes in three domains",
    }
    for of_rows, title in titles.items():
        chosen = [row for row in rows if row["agent"].startswith("rows-") == of_rows]
        if not chosen:
            continue
        lines += ["", title, "", "| agent | seed | ends at | seconds | steps | success, train | success, test | return, test | calls, test |"]
        lines += ["|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
        for row in chosen:
            test = row["test"]
            figures = f"{row['train']['success']:.3f} | {test['success']:.3f} | {test['return']:.3f} | {test['steps']:.2f}"
            mark = "¹" if row.get("note") else ""
            lines.append(f"| {row['agent']}{mark} | {row['seed']} | {row['stop_at']:.2f} | {row['cpu_seconds']:.0f} | {row['steps']:,} | {figures} |")
    lines += ["", *(f"¹ {note}" for note in sorted({row["note"] for row in rows if row.get("note")}))]
    lines += ["", f"## What the actions can solve at all: share of {SOLVABLE} held-out tasks, all families and domains", ""]
    lines += ["| level | compact | rows |", "|---:|---:|---:|"]
    for level in range(1, 6):
        lines.append(f"| {level} | {solvable('compact', level, SOLVABLE):.2f} | {solvable('rows', level, SOLVABLE):.2f} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(AGENTS), choices=AGENTS, metavar="AGENT", help=f"some of {', '.join(AGENTS)}")
    parser.add_argument("--seconds", type=float, default=300.0, help="of processor time for training, at most (default: 300)")
    parser.add_argument("--steps", type=int, default=1_000_000, help="of training, at most (default: 1,000,000)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of network, exploration and environments (default: 0 1 2)")
    parser.add_argument("--episodes", type=int, default=300, help="evaluated in each split (default: 300)")
    parser.add_argument("--kept", type=Path, default=Path("runs/sb3_zoo.jsonl"), help="where finished runs are kept (default: runs/sb3_zoo.jsonl)")
    parser.add_argument("--page-only", action="store_true", help="train nothing, write the page of the runs that are kept")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the page goes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the networks are too small for more
    arguments.kept.parent.mkdir(parents=True, exist_ok=True)
    arguments.kept.touch()

    def kept() -> dict[tuple[str, int], dict[str, Any]]:
        rows = map(json.loads, arguments.kept.read_text(encoding="utf-8").splitlines())
        return {(row["agent"], row["seed"]): row for row in rows}

    wanted = list(itertools.product(arguments.only, arguments.seeds))
    for agent, seed in wanted:
        there = kept().get((agent, seed))
        if (there is None or there["stop_at"] != STOP_AT[agent]) and not arguments.page_only:
            row = measure(agent, seed, arguments.seconds, arguments.steps, arguments.episodes)
            with arguments.kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)
    found = kept()
    text = page([found[one] for one in wanted if one in found], arguments.episodes)
    if missing := [f"{agent} {seed}" for agent, seed in wanted if (agent, seed) not in found]:
        text += f"\nNot run yet (agent and seed): {', '.join(missing)}.\n"
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
