"""The figures of ``make demo``, and its picture: the command of the Makefile, once for every seed.

    python benchmarks/demo.py                 # seeds 0, 1, 2: two to four minutes each; writes benchmarks/results/demo.md and docs/demo.png
    python benchmarks/demo.py --from DIR      # the page again, from runs that are there
    python benchmarks/demo.py --out DIR --seeds 7 --quick    # some seconds, to see that all works; writes into DIR only

The picture is the learning curve of the first seed. A seed whose run is finished is not run again.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS, PICTURE = ROOT / "benchmarks" / "results" / "demo.md", ROOT / "docs" / "demo.png"
QUICK = {"demos": 8, "demo_batch": 4, "episodes": 4, "eval_episodes": 8, "max_new_tokens": 12, "max_steps": 3, "epochs": 1}
"""Settings with which a run takes seconds, and learns nothing."""
DEEPEST = "depth=4"


def demo_command(seed: int, out: str) -> list[str]:
    """Return what ``make demo SEED=seed`` runs, without the path of the program; read from the Makefile, so that it cannot differ."""
    line = next(line for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines() if "/steptool train" in line)
    words = line.partition("/steptool ")[2].replace("$(SEED)", str(seed)).replace('"$$out"', shlex.quote(out))
    return shlex.split(words)


def train(seed: int, out: Path, more: Sequence[str]) -> None:
    """Train one seed in a process of its own, unless it is there already."""
    if (out / "report.json").exists():
        return
    program = "from steptool_agents.cli import main; main()"
    subprocess.run([sys.executable, "-c", program, *demo_command(seed, str(out)), *more], check=True)


def row(seed: int, report: Mapping[str, Any]) -> str:
    """Return the row of one seed."""
    before, after = report["before"], report["after"]

    def interval(one: Mapping[str, Any]) -> str:
        return f"{_percent(one['success'])} % ({_percent(one['success_low'])} to {_percent(one['success_high'])})"

    def change(first: float | None, second: float | None) -> str:
        return f"{_percent(first)} → {_percent(second)} %"

    deepest = [one["by_tag"].get(DEEPEST, {}).get("success") for one in (before, after)]
    accuracy = change(before["call_accuracy"], after["call_accuracy"])
    return f"| {seed} | {interval(before)} | {interval(after)} | {change(*deepest)} | {accuracy} | {report['seconds']:.0f} |"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def page(reports: Mapping[int, Mapping[str, Any]], command: str) -> str:
    """Return the page of results."""
    first = next(iter(reports.values()))
    return "\n".join(
        [
            "# The demo",
            "",
            f"Made by `{command}`, which runs `make demo` once for every seed: `steptool {shlex.join(demo_command(0, 'runs/demo'))}`.",
            "[The picture](../../docs/demo.png) is the learning curve of the first seed. "
            f"Success on {first['after']['episodes']} held-out tasks, greedy, with 95 % intervals over tasks.",
            "",
            f"| seed | success after the warm start | after {first['updates']} updates | tasks of four calls | call accuracy | seconds |",
            "|---:|---:|---:|---:|---:|---:|",
            *(row(seed, report) for seed, report in reports.items()),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/demo_figures"), help="where the runs go, one folder for each seed")
    parser.add_argument("--from", dest="stored", type=Path, help="only write the page, from the runs of this folder")
    parser.add_argument("--quick", action="store_true", help="one update with tiny settings; the page and the picture go into --out")
    options = parser.parse_args()
    folder = options.stored or options.out
    more = ["--updates", "1", *(word for name, value in QUICK.items() for word in ("--set", f"{name}={value}"))] if options.quick else []
    if options.stored is None:
        for seed in options.seeds:
            train(seed, folder / str(seed), more)
    reports = {seed: json.loads((folder / str(seed) / "report.json").read_text(encoding="utf-8")) for seed in options.seeds}
    results, picture = (folder / RESULTS.name, folder / PICTURE.name) if options.quick else (RESULTS, PICTURE)
    results.write_text(page(reports, shlex.join(["python", "benchmarks/demo.py", *sys.argv[1:]])), encoding="utf-8")
    shutil.copyfile(folder / str(options.seeds[0]) / "learning_curve.png", picture)
    print(results.read_text(encoding="utf-8"))
    print(f"Saved {results}, {picture}")


if __name__ == "__main__":
    main()
