"""How long does a newcomer take from an empty file to a policy that was trained on tools, tasks and a reward of their own? And what is it worth?

    python benchmarks/newcomer.py     # writes benchmarks/results/newcomer.md; resumes when killed

Does what docs/own_suite.md says, in an empty folder: writes its files, audits its reward, and runs the commands of its section "Train, look,
go on" that train in earnest, with the settings that a run has by default. Reading is counted at 200 words a minute, code included, which is
slow for prose and fast for code.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from steptool_env.files import write_json, write_text

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "own_suite.md"
RESULTS = ROOT / "benchmarks" / "results" / "newcomer.md"
WORDS_A_MINUTE = 200


def files(text: str) -> dict[str, str]:
    """Return the files of the page, by name."""
    blocks = re.findall(r"^```python\n(# file: (\S+)\n.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return {name: code for code, name in blocks}


def commands(text: str) -> list[str]:
    """Return the audit of the page's own reward, and the commands that train in earnest."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (earnest,) = (block for block in blocks if block.startswith("# not run: trains"))
    chosen = [line for block in blocks for line in block.splitlines() if line.startswith("steptool audit") and "--shaper" in line]
    return [*chosen, *(line for line in earnest.replace("\\\n", " ").splitlines() if line.startswith("steptool "))]


def timed(command: str, folder: Path, threads: int) -> tuple[float, float]:
    """Run a command and return its seconds, by the clock and of processor time; a training that was killed goes on."""
    words = shlex.split(command)[1:]
    if words[0] == "train" and (folder / words[words.index("--out") + 1] / "config.json").is_file():
        words = ["train", "--resume", "--out", words[words.index("--out") + 1]]
    started, used = time.monotonic(), _used()
    subprocess.run([sys.executable, "-m", "steptool_agents", *words], cwd=folder, env={**os.environ, "OMP_NUM_THREADS": str(threads)}, check=True)
    return time.monotonic() - started, _used() - used


def _used() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def percent(report: dict[str, Any]) -> str:
    """Return the success of a report with its interval."""
    return f"{100 * report['success']:.1f} % ({100 * report['success_low']:.1f} to {100 * report['success_high']:.1f})"


def page(text: str, seconds: dict[str, tuple[float, float]], report: dict[str, Any], machine: str) -> str:
    """Return the results as Markdown."""
    words = len(text.split())
    read, run, used = words / WORDS_A_MINUTE, *(sum(column) / 60 for column in zip(*seconds.values(), strict=True))
    titles = {"before": "after the warm start", "after": "after training"}
    return "\n".join(
        [
            "# From an empty file to a trained policy",
            "",
            f"Made by `{shlex.join(['python', 'benchmarks/newcomer.py', *sys.argv[1:]])}`,",
            f"on {machine}.",
            "",
            *(__doc__ or "").strip().splitlines()[4:],
            "",
            "| what | minutes by the clock | of processor time |",
            "|---|---:|---:|",
            f"| read docs/own_suite.md, {words} words | {read:.1f} | |",
            *(f"| `{command}` | {taken / 60:.1f} | {of_processor / 60:.1f} |" for command, (taken, of_processor) in seconds.items()),
            f"| all | {read + run:.1f} | {used:.1f} |",
            "",
            f"Held-out tasks: {report['before']['episodes']}, greedy, with 95 % intervals over tasks; one seed.",
            "",
            "| | success | calls per episode |",
            "|---|---:|---:|",
            *(f"| {title} | {percent(report[key])} | {report[key]['steps']:.2f} |" for key, title in titles.items()),
            "",
            f"Training took {report['seconds']:.0f} seconds, warm start and evaluations included, and {report['env_steps']:,} steps in "
            f"{report['updates']} updates.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/newcomer"), help="the newcomer's folder (default: runs/newcomer)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the page goes")
    parser.add_argument("--threads", type=int, default=2, help="of the model (default: 2)")
    parser.add_argument("--machine", default="two free cores", help="what the page says it ran on")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    text, clock = PAGE.read_text(encoding="utf-8"), given.out / "seconds.json"
    for name, code in files(text).items():
        write_text(given.out / name, code)
    seconds: dict[str, tuple[float, float]] = json.loads(clock.read_text(encoding="utf-8")) if clock.is_file() else {}
    chosen = commands(text)
    for command in chosen:
        if command not in seconds:
            write_json(clock, seconds := {**seconds, command: timed(command, given.out, given.threads)})
    (trained,) = (words[words.index("--out") + 1] for words in map(shlex.split, chosen) if words[1] == "train")
    report = json.loads((given.out / trained / "report.json").read_text(encoding="utf-8"))
    made = page(text, {command: seconds[command] for command in chosen}, report, given.machine)
    write_text(given.results, made)
    print(made)


if __name__ == "__main__":
    main()
