"""Can classic reinforcement learning play multi-step tool use? Algorithms of stable-baselines3 on StepToolDiscrete-v0.

    python benchmarks/sb3_zoo.py                                  # all four on worlds level 1, 90 seconds each at most
    python benchmarks/sb3_zoo.py maskable-ppo --level 2 --seconds 180 --json

Each algorithm trains on the tasks of the split "train" until its success over 200 episodes reaches 0.98, or the time is
up, and is then evaluated on tasks of both splits, greedily, without further learning. Time is wall-clock time.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from steptool_agents.sb3 import SB3_ALGORITHMS, SuccessCallback, evaluate, make_envs, make_model

CHAINS: dict[str, Any] = {"domains": ("shop", "travel", "clinic"), "families": ("lookup", "change"), "faults": 0, "lookalikes": 0}
"""The tasks of ``worlds`` whose calls take one value each."""


class Deadline(BaseCallback):
    """Ends training after so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.end = time.monotonic() + seconds

    def _on_step(self) -> bool:
        return time.monotonic() < self.end


def measure(algorithm: str, level: int, seconds: float, seed: int, episodes: int) -> dict[str, Any]:
    """Train one algorithm and return its figures."""
    model = make_model(algorithm, make_envs(8, seed=seed, suite="worlds", level=level, **CHAINS), seed=seed)
    start, used = time.monotonic(), time.process_time()
    success = SuccessCallback(stop_at=0.98)
    model.learn(10_000_000, callback=CallbackList([success, Deadline(seconds)]))
    return {
        "algorithm": algorithm,
        "level": level,
        "seed": seed,
        "seconds": round(time.monotonic() - start, 1),
        "cpu_seconds": round(time.process_time() - used, 1),
        "steps": model.num_timesteps,
        "train": evaluate(model, episodes, suite="worlds", level=level, **CHAINS, split="train"),
        "test": evaluate(model, episodes, suite="worlds", level=level, **CHAINS, split="test"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("algorithms", nargs="*", default=list(SB3_ALGORITHMS), metavar="ALGORITHM", help=f"some of {', '.join(SB3_ALGORITHMS)}")
    parser.add_argument("--level", type=int, default=1, help="level of worlds (default: 1)")
    parser.add_argument("--seconds", type=float, default=90.0, help="of training, at most (default: 90)")
    parser.add_argument("--seed", type=int, default=0, help="of network, exploration and environments (default: 0)")
    parser.add_argument("--episodes", type=int, default=300, help="evaluated in each split (default: 300)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1; the networks are too small for more)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    if not arguments.json:
        print("algorithm       seconds    steps   train    test   return   calls", flush=True)
    for algorithm in arguments.algorithms:
        row = measure(algorithm, arguments.level, arguments.seconds, arguments.seed, arguments.episodes)
        rows.append(row)
        if not arguments.json:
            test = row["test"]
            figures = f"{row['train']['success']:>7.3f} {test['success']:>7.3f} {test['return']:>8.3f} {test['steps']:>7.2f}"
            print(f"{algorithm:<14} {row['seconds']:>8.1f} {row['steps']:>8,} {figures}", flush=True)
    if arguments.json:
        print(json.dumps({"benchmark": "sb3_zoo", "results": rows}))


if __name__ == "__main__":
    main()
