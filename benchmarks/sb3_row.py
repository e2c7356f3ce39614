"""A row of the paper's table by other people's code and on another observation: sb3-contrib's MaskablePPO on the table's tasks.

    python benchmarks/sb3_row.py                                # three seeds, five minutes of one core; writes benchmarks/results/sb3_row.md
    python benchmarks/sb3_row.py --seeds 1 --steps 2000 --tasks 20 --out runs/trial   # a trial; writes no page

The stock ``MlpPolicy`` plays ``StepToolDiscrete-v0`` in its default, compact form: it chooses among written calls, whose values it is shown, where the
rows of the table write their calls as text, so its figures stand beside the table and not in it. By default its environment steps are those of the
table; ``--steps 20000 60000`` says what more steps give. It has no warm start, and no tokens. What is done is kept in ``--out``, and not done again.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "sb3_row.md"
ENVS = 16


def play(model: Any, suite: Any, tasks: int, sizes: dict[str, Any]) -> dict[str, list[float]]:
    """Play held-out tasks greedily; return the success of each, and the calls that its solution takes."""
    import gymnasium as gym

    from steptool_agents import held_out

    env: Any = gym.make("steptool_env:StepToolDiscrete-v0", suite=suite, **sizes)
    core = env.unwrapped
    success, depth = [], []
    for task in held_out(core.suite, tasks):
        observation, info = env.reset(options={"task": task})
        depth.append(core.suite[task].tags["depth"])
        over = False
        while not over:
            action, _ = model.predict(observation, deterministic=True, action_masks=core.action_masks())
            observation, _, terminated, truncated, info = env.step(action)
            over = terminated or truncated
        success.append(float(info["success"]))
    env.close()
    return {"success": success, "depth": depth}


def train(seed: int, steps: Sequence[int], tasks: int, folder: Path) -> list[dict[str, Any]]:
    """Train one agent from mark to mark, and play at each."""
    import torch

    from steptool_agents.experiments.grid import TASKS, Spec, suite_of
    from steptool_agents.interop.sb3 import make_envs, make_model, sizes_of

    file = folder / f"{seed}.json"
    if file.is_file():
        found: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
        if [mark["asked"] for mark in found] == list(steps):
            return found
    torch.set_num_threads(1)  # the network is too small for more
    table = Spec()
    suites = {name: suite_of(table, table.config("StepTool", seed), name) for name in table.splits}
    model = make_model("maskable-ppo", make_envs(ENVS, seed=seed, suite="worlds", **TASKS), seed=seed)
    sizes = sizes_of(model.action_space, model.observation_space, 16)
    marks: list[dict[str, Any]] = []
    spent = 0.0
    for asked in steps:
        started = time.process_time()
        model.learn(asked - model.num_timesteps, reset_num_timesteps=False)
        spent += time.process_time() - started
        played = {name: play(model, suite, tasks, sizes) for name, suite in suites.items()}
        marks.append({"asked": asked, "steps": model.num_timesteps, "cpu_seconds": spent, "played": played})
        print(f"seed {seed}, {model.num_timesteps:,} steps: {sum(played['held-out']['success']) / tasks:.3f}", file=sys.stderr, flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(marks), encoding="utf-8")
    return marks


def page(runs: Sequence[Sequence[dict[str, Any]]], tasks: int, command: str) -> str:
    """Return the table as Markdown."""
    from steptool_agents import bootstrap

    lines = ["# MaskablePPO on the tasks of the paper's table", "", f"Made by `{command}`: sb3-contrib's MaskablePPO with its own `MlpPolicy` on"]
    lines += ["`StepToolDiscrete-v0` (written calls to choose from, another observation than that of the table's rows), without a warm start."]
    lines += [f"{tasks} tasks of each split, {len(runs)} seeds; percent of tasks solved, with bootstrap 95 % intervals over tasks and seeds.", ""]
    deepest = sorted({int(depth) for run in runs for depth in run[0]["played"]["held-out"]["depth"]})
    lines += [f"| steps | seconds of one core | held-out | {' | '.join(f'depth {depth}' for depth in deepest)} | deeper |"]
    lines += ["|---:|---:|---|" + "---:|" * len(deepest) + "---|"]
    for marks in zip(*runs, strict=True):
        cells = []
        for split in ("held-out", "deeper"):
            one = bootstrap([mark["played"][split]["success"] for mark in marks])
            cells.append(f"{100 * one.mean:.1f} ({100 * one.low:.0f} to {100 * one.high:.0f})")
        by_depth = []
        for depth in deepest:
            pairs = [zip(mark["played"]["held-out"]["success"], mark["played"]["held-out"]["depth"], strict=True) for mark in marks]
            solved = [success for some in pairs for success, of in some if of == depth]
            by_depth.append(f"{100 * sum(solved) / len(solved):.0f}")
        seconds = sum(mark["cpu_seconds"] for mark in marks) / len(marks)
        lines.append(f"| {marks[0]['steps']:,} | {seconds:.0f} | {cells[0]} | {' | '.join(by_depth)} | {cells[1]} |")
    lines += ["", "Deeper: tasks of one or two calls more than the deepest of training. Depth: calls of the solution, without the answer."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="0, 1, … (default: 3)")
    parser.add_argument("--steps", type=int, nargs="+", default=[20_000], help="marks (default: 20000)")
    parser.add_argument("--tasks", type=int, default=150, help="of each split (default: 150)")
    parser.add_argument("--out", type=Path, default=Path("runs/sb3_row"), help="where runs are kept (default: runs/sb3_row)")
    given = parser.parse_args()
    runs = [train(seed, given.steps, given.tasks, given.out) for seed in range(given.seeds)]
    text = page(runs, given.tasks, shlex.join(["python", "benchmarks/sb3_row.py", *sys.argv[1:]]))
    print(text)
    if given.steps == parser.get_default("steps") and given.tasks == parser.get_default("tasks"):
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
