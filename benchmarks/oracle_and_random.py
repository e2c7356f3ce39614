"""Are the tasks sound? The suites' own solutions solve every one of them, and random play next to none.

    python benchmarks/oracle_and_random.py                     # oracle and random play; writes benchmarks/results/
    python benchmarks/oracle_and_random.py --policy oracle --json

Plays 1,000 tasks of every level and split of the suite ``worlds``, spread evenly over the split, and all 200 tasks of
``bfcl``, category ``base`` (left out where ``bfcl-eval`` is not installed). The exit status is 1 if a task defeats the
oracle, or if random play, which calls tools on offer with values that it has seen, solves one in twenty or more.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from steptool_agents import OraclePolicy, Policy, RandomPolicy, Report, evaluate, held_out
from steptool_env import TaskSuite, make_suite
from steptool_env.errors import MissingExtra
from steptool_env.tasks.worlds import LEVELS

POLICIES: dict[str, Callable[[], Policy]] = {"oracle": OraclePolicy, "random": RandomPolicy}
MOST_BY_CHANCE = 0.05
RESULTS = Path(__file__).parent / "results" / "oracle_and_random.md"


def suites() -> Iterator[tuple[str, str, TaskSuite]]:
    """Yield name, split and suite of everything that is played."""
    for level in LEVELS:
        for split in ("train", "test"):
            yield f"worlds, level {level}", split, make_suite("worlds", level=level, split=split)
    try:
        yield "bfcl, base", "all", make_suite("bfcl", category="base", split="all")
    except MissingExtra as missing:
        print(f"bfcl is left out: {missing}", file=sys.stderr)


def holds(policy: str, report: Report) -> bool:
    """Return whether the claim about this policy holds."""
    return report.success == 1.0 if policy == "oracle" else report.success < MOST_BY_CHANCE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", choices=[*POLICIES], action="append", help="what plays (default: both)")
    parser.add_argument("--tasks", type=int, default=1000, help="tasks of each level and split of worlds (default: 1000)")
    parser.add_argument("--json", action="store_true", help="print one JSON object and write no file")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the table goes (default: benchmarks/results/oracle_and_random.md)")
    arguments = parser.parse_args()
    if arguments.tasks < 1:
        parser.error("--tasks must be at least 1")
    console = Console(stderr=True)
    rows: list[dict[str, Any]] = []
    with console.status("") as status:
        for name, split, suite in suites():
            tasks = held_out(suite, min(arguments.tasks, len(suite)) if name.startswith("worlds") else len(suite))
            for policy in arguments.policy or POLICIES:
                status.update(f"{policy}: {name}, {split}")
                start = time.perf_counter()
                report, episodes = evaluate(POLICIES[policy](), suite, tasks)
                row = {"suite": name, "split": split, "tasks": len(tasks), "policy": policy, "holds": holds(policy, report)}
                row["solved"] = sum(episode.success == 1.0 for episode in episodes)
                rows.append({**row, "seconds": round(time.perf_counter() - start, 1), **report.as_dict()})
    if arguments.json:
        print(json.dumps({"benchmark": "oracle_and_random", "tasks": arguments.tasks, "results": rows}))
    else:
        columns, lines = table(rows)
        show(columns, lines)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(markdown(columns, lines), encoding="utf-8")
        console.print(f"written to {arguments.out}")
    if not all(row["holds"] for row in rows):
        console.print("[bold red]the claim does not hold")
        raise SystemExit(1)


def table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return the columns and the lines, one a suite and split."""
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    lines: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        line = lines.setdefault((row["suite"], row["split"]), [row["suite"], row["split"], f"{row['tasks']:,}"])
        line += [f"{row['solved']:,} ({row['success']:.3f})", f"{row['steps']:.1f}"]
    return ["suite", "split", "tasks", *(head for policy in policies for head in (f"{policy} solves", "calls"))], list(lines.values())


def show(columns: list[str], lines: list[list[str]]) -> None:
    """Print the table."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for number, column in enumerate(columns):
        shown.add_column(column, justify="left" if number < 2 else "right", no_wrap=True)
    for line in lines:
        shown.add_row(*line)
    Console().print(shown)


def markdown(columns: list[str], lines: list[list[str]]) -> str:
    """Return the table with the command that made it."""
    head = ["| " + " | ".join(columns) + " |", "|" + "|".join("---" if number < 2 else "---:" for number in range(len(columns))) + "|"]
    command = shlex.join(["python", "benchmarks/oracle_and_random.py", *sys.argv[1:]])
    return "\n".join(
        [
            "# The oracle and random play",
            "",
            f"Made by `{command}`. How many tasks each policy solves, as a share in brackets, and its mean calls per episode, `finish` included.",
            "The oracle plays the suite's own solution; random play calls tools on offer with values that it has seen.",
            "",
            *head,
            *("| " + " | ".join(line) + " |" for line in lines),
            "",
        ]
    )


if __name__ == "__main__":
    main()
