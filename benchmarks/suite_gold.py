"""Do the imported suites judge as they should? Gold solves every task; and the floor: what ending at once solves.

    python benchmarks/suite_gold.py                         # every suite whose package is installed; writes benchmarks/results/
    python benchmarks/suite_gold.py --only tau2 --json

Set STEPTOOL_TOOLBENCH to the folder of StableToolBench's queries to include them. One process, one environment. The exit
status is 1 if gold fails a task.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from steptool_env import StepToolEnv, ToolCall, make_suite
from steptool_env.errors import MissingExtra
from steptool_env.tasks.bfcl import CATEGORIES
from steptool_env.tasks.bfcl_single import SINGLE_TURN
from steptool_env.tasks.tau2 import DOMAINS

RESULTS = Path(__file__).parent / "results" / "suite_gold.md"
SUITES: list[tuple[str, dict[str, Any]]] = [
    *(("bfcl", {"category": category}) for category in (*CATEGORIES, *SINGLE_TURN)),
    ("agentdojo", {}),
    *(("tau2", {"domain": domain}) for domain in DOMAINS),
    ("toolbench", {}),
    ("jsonl", {}),
]
NOTHING = ToolCall("finish", {"answer": ""})


def measure(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Play every task of a suite with its own solution, and by finishing until it is over."""
    suite = make_suite(name, **options, split="all")
    env = StepToolEnv(suite, "final")
    solved, idle, steps, failed = 0, 0, 0, []
    started = time.perf_counter()
    for index in range(len(suite)):
        env.reset(options={"task": index})
        ended, info = False, {}
        for call in env.solution():
            *_, terminated, truncated, info = env.step(call)
            steps, ended = steps + 1, terminated or truncated
        solved += info["success"] == 1.0
        if not ended or info["success"] != 1.0:
            failed.append(f"{suite[index].id}: {env.episode[-1].outcome if env.episode else None}")
    seconds = time.perf_counter() - started
    for index in range(len(suite)):
        env.reset(options={"task": index})
        ended = False
        while not ended:
            *_, terminated, truncated, info = env.step(NOTHING)
            ended = terminated or truncated
        idle += info["success"] == 1.0
    label = f"{name} {' '.join(options.values())}".strip()
    return {"suite": label, "tasks": len(suite), "gold": solved, "nothing": idle, "steps": steps, "seconds": seconds, "failed": failed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="only this suite")
    parser.add_argument("--json", action="store_true", help="print one JSON object and write no file")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    found = []
    for name, options in SUITES:
        if arguments.only in (None, name):
            try:
                found.append(measure(name, options))
                print(found[-1], file=sys.stderr)
            except MissingExtra as missing:
                print(f"{name} is left out: {missing}", file=sys.stderr)
    failed = [fault for one in found for fault in one["failed"]]
    if arguments.json:
        print(json.dumps(found))
        sys.exit(bool(failed))
    table = [
        "# Gold and nothing at all, suite by suite",
        "",
        f"Made by `python benchmarks/suite_gold.py{f' --only {arguments.only}' if arguments.only else ''}`.",
        "How many tasks the official solution solves, how many an agent that ends every turn at once,",
        "and what playing gold takes in one process, `reset` and verdict included.",
        "",
        "| suite | tasks | gold solves | nothing solves | gold steps | seconds | steps/s |",
        "|---|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {one['suite']} | {one['tasks']} | {one['gold']} | {one['nothing']} | {one['steps']} "
            f"| {one['seconds']:.1f} | {one['steps'] / one['seconds']:,.0f} |"
            for one in found
        ),
        "",
    ]
    arguments.out.write_text("\n".join([*table, *failed]), encoding="utf-8")
    print("\n".join([*table, *failed]))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
