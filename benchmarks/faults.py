"""What makes a policy robust when calls fail: faults in demonstrations or in training, a budget that is shown, or what its own mistakes cost?

    python benchmarks/faults.py --out runs/faults     # trains each row, resumes when killed; prints the tables of benchmarks/results/faults.md

Every row but one is ``step-ppo`` on the tasks of the paper's table, with the same warm start otherwise, 20,000 environment steps, and two seeds. It is
played greedily on 300 held-out tasks with 0 to 40 % of failing calls, and with tools that stay down. How often a failed call is made again is
counted by its place in the episode.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steptool_agents import Trajectory, read_jsonl
from steptool_agents.experiments.grid import Spec, cell_folder, evaluations, run_grid
from steptool_agents.experiments.robustness import robustness_markdown
from steptool_agents.experiments.stored import markdown
from steptool_agents.experiments.table import build
from steptool_env.types import ToolCall, whose

WARM_START = {"demo_lr": 0.0014622451731893071, "demo_epochs": 1, "demo_batch": 8}
"""What the search for the table's settings has found."""
ROWS: dict[str, dict[str, Any]] = {
    "StepTool": {},
    "faults in demonstrations": {"demo_fault_rate": 0.4},
    "faults in both": {"demo_fault_rate": [0.0, 0.3], "fault_rate": [0.0, 0.3]},
    "faults in both, more in demonstrations": {"demo_fault_rate": 0.4, "fault_rate": [0.0, 0.3]},
    "budget shown": {"show_budget": True},
    "alpha .02": {"shaper_options": {"alpha": 0.02}},
    "Con only": {"shaper_options": {"alpha": 0.0}},
    "PPO (final)": {"algo": "ppo-final"},
}
FAULTS: list[dict[str, float]] = [*({"rate": rate} for rate in (0.1, 0.2, 0.3, 0.4)), {"rate": 0.1, "lasting": 1.0}]
SHOWN = {"rate": 0.3}
"""The condition under which calls after a failed one are counted."""
PLACES = 9


def spec(seeds: int, steps: int, tasks: int, rows: Sequence[str]) -> Spec:
    """Return the grid."""
    # Nothing is imitated again, so that only rewards and demonstrations differ.
    methods = {row: {"algo": "step-ppo", "imitate": "none", **WARM_START, **ROWS[row]} for row in rows}
    settings = {"updates": 10_000, "budget_steps": steps, "budget_tokens": 4_000_000, "eval_episodes": 20}
    return Spec(methods, list(range(seeds)), settings, splits={"held-out": {}}, searches=["greedy"], faults=FAULTS, tasks=tasks)


def after_faults(episodes: Sequence[Trajectory]) -> list[tuple[int, str]]:
    """Return the place of every call that failed by the environment's fault, and what the next call was."""
    found = []
    for episode in episodes:
        for place, (failed, then) in enumerate(zip(episode.steps, episode.steps[1:], strict=False)):
            if whose(failed.transition.result.error) == "environment":
                call = then.transition.action
                if call == failed.transition.action:
                    what = "made again"
                elif isinstance(call, ToolCall) and call.name == "finish":
                    what = "answered"
                else:
                    what = "invalid" if whose(then.transition.result.error) == "model" else "another"
                found.append((place, what))
    return found


def counted(out: Path, grid: Spec) -> list[str]:
    """Return the lines of the tables of what follows on a failed call."""
    kinds, by_place = [], []
    for row in grid.methods:
        found = []
        for seed in grid.seeds:
            [stored] = [one for one in evaluations(grid, cell_folder(out, row, seed)) if one.faults == SHOWN]
            found += after_faults(read_jsonl(stored.episodes))
        names = [what for _, what in found]
        kinds.append([row, str(len(found)), *(f"{100 * names.count(kind) / len(found):.0f}" for kind in ("made again", "answered", "invalid", "another"))])
        again = [[what == "made again" for at, what in found if min(at, PLACES - 1) == place] for place in range(PLACES)]
        by_place.append([row, *(f"{100 * sum(one) / len(one):.0f}" if one else "-" for one in again)])
    lines = ["What the next call was after one that failed, per cent, with 30 % of failing calls:", ""]
    lines += [*markdown(["row", "failed", "the same again", "an answer", "invalid", "another"], kinds), ""]
    lines += ["The same again, per cent, by the place of the failed call in its episode:", ""]
    return [*lines, *markdown(["row", *(str(place + 1) for place in range(PLACES - 1)), f"{PLACES} and later"], by_place)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/faults"))
    parser.add_argument("--row", action="append", choices=list(ROWS), help="may be repeated; all by default")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20_000, help="environment steps of training")
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    grid = spec(given.seeds, given.steps, given.tasks, given.row or list(ROWS))

    def show(row: str, seed: int, state: str) -> None:
        print(f"{row}, seed {seed}: {state}\n", end="", flush=True)  # one write: cells end side by side

    failed = run_grid(grid, given.out, processes=given.processes, on_cell=show)
    if failed:
        raise SystemExit(f"{failed[0]} failed; its log.txt says why")
    table = build(given.out)
    accuracy = [[row["method"], f"{100 * row['success']:.1f}", f"{100 * row['call_accuracy']:.1f}"] for row in table["rows"]]
    print("\n".join([*markdown(["without failures", "success", "call accuracy"], accuracy), ""]))
    print("\n".join([*robustness_markdown(table["robustness"], "StepTool"), ""]))
    print("\n".join(counted(given.out, grid)))


if __name__ == "__main__":
    main()
