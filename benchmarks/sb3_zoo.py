"""Can classic reinforcement learning play multi-step tool use? Algorithms of stable-baselines3 on StepToolDiscrete-v0.

    python benchmarks/sb3_zoo.py                                  # all four on worlds level 1; writes benchmarks/results/sb3_zoo.md
    python benchmarks/sb3_zoo.py maskable-ppo --level 2 --seconds 180 --seeds 0 --json

Each algorithm trains on the tasks of the split "train" until its success over 200 episodes reaches 0.98, or the time or the
steps are used up, and is then evaluated on tasks of both splits, greedily, without further learning. Time is wall-clock
time. Tasks are lookups and changes in the domains clinic, shop and travel; replies are whole records, or single fields that
the call has to name (``--replies field``).
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from steptool_agents.interop.sb3 import SB3_ALGORITHMS, SuccessCallback, evaluate, make_envs, make_model

RESULTS = Path(__file__).parent / "results" / "sb3_zoo.md"
DIALS: dict[str, Any] = {"suite": "worlds", "families": ("lookup", "change"), "domains": ("shop", "travel", "clinic"), "faults": 0, "lookalikes": 0}
"""The tasks of ``worlds`` whose calls take one value each."""


class Deadline(BaseCallback):
    """Ends training after so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.end = time.monotonic() + seconds

    def _on_step(self) -> bool:
        return time.monotonic() < self.end


def measure(algorithm: str, options: dict[str, Any], seconds: float, steps: int, seed: int, episodes: int) -> dict[str, Any]:
    """Train one algorithm and return its figures."""
    model = make_model(algorithm, make_envs(8, seed=seed, **options), seed=seed)
    start, used = time.monotonic(), time.process_time()
    success = SuccessCallback(stop_at=0.98)
    model.learn(steps, callback=CallbackList([success, Deadline(seconds)]))
    return {
        "algorithm": algorithm,
        "level": options["level"],
        "replies": options["replies"],
        "seed": seed,
        "seconds": round(time.monotonic() - start, 1),
        "cpu_seconds": round(time.process_time() - used, 1),
        "steps": model.num_timesteps,
        "train": evaluate(model, episodes, split="train", **options),
        "test": evaluate(model, episodes, split="test", **options),
    }


def page(rows: list[dict[str, Any]], episodes: int, threads: int) -> str:
    """Return the table as Markdown."""
    lines = [
        "# Classic algorithms on StepToolDiscrete-v0",
        "",
        f"Made by `{shlex.join(['python', 'benchmarks/sb3_zoo.py', *sys.argv[1:]])}`, torch with {threads} thread(s), on one core of a shared machine.",
        f"Success is the share of {episodes} tasks solved by the greedy policy; tasks of the split test are never trained on.",
        "",
        "| algorithm | level | replies | seed | seconds | steps | success, train | success, test | return, test | calls, test |",
        "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        test = row["test"]
        figures = f"{row['train']['success']:.3f} | {test['success']:.3f} | {test['return']:.3f} | {test['steps']:.2f}"
        lines.append(f"| {row['algorithm']} | {row['level']} | {row['replies']} | {row['seed']} | {row['seconds']:.1f} | {row['steps']:,} | {figures} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("algorithms", nargs="*", default=list(SB3_ALGORITHMS), metavar="ALGORITHM", help=f"some of {', '.join(SB3_ALGORITHMS)}")
    parser.add_argument("--level", type=int, default=1, help="level of worlds (default: 1)")
    parser.add_argument("--replies", nargs="+", default=["record"], choices=["record", "field"], help="what lookups return (default: record)")
    parser.add_argument("--seconds", type=float, default=90.0, help="of training, at most (default: 90)")
    parser.add_argument("--steps", type=int, default=60_000, help="of training, at most (default: 60,000)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of network, exploration and environments (default: 0 1 2)")
    parser.add_argument("--episodes", type=int, default=300, help="evaluated in each split (default: 300)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1; the networks are too small for more)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and write no file")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the table goes")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for replies, algorithm, seed in itertools.product(arguments.replies, arguments.algorithms, arguments.seeds):
        options = {**DIALS, "level": arguments.level, "replies": replies}
        rows.append(measure(algorithm, options, arguments.seconds, arguments.steps, seed, arguments.episodes))
        if not arguments.json:
            print(rows[-1], flush=True)
    if arguments.json:
        print(json.dumps({"benchmark": "sb3_zoo", "results": rows}))
        return
    text = page(rows, arguments.episodes, arguments.threads)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
