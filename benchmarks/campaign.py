"""What does not break: runs that are killed, files that are damaged, servers and texts that are hostile, tools that are evil, and long runs.

    python benchmarks/campaign.py                                # everything: 300 kill sequences, 10^6 texts … (about an hour on two cores)
    python benchmarks/campaign.py --only kills,files --jobs 4    # some parts; what is done is not done again
    python benchmarks/campaign.py --short                        # the part that the tests run, in half a minute
    python benchmarks/campaign.py --share 0.1 --work runs/tenth  # a tenth of every kind

Every case runs in a forked process of its own, so that it may hang or die. Its outcome is appended to ``state.jsonl`` in ``--work``: a
campaign that was stopped goes on there. The table goes to ``benchmarks/results/campaign.md`` once all parts are done. The program fails if
a case ended as it should not; ``--again`` tries those that did once more.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from campaign_parts.cases import Case, Child, Outcome, end, pick

RESULTS = Path(__file__).parent / "results" / "campaign.md"
PARTS = ("kills", "files", "servers", "texts", "actions", "growth")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, separated by commas (default: {','.join(PARTS)})")
    parser.add_argument("--case", default="", help="only cases whose part/kind/name holds this text; writes no page")
    parser.add_argument("--share", type=float, default=1.0, help="share of the cases of every kind (default: 1)")
    parser.add_argument("--short", action="store_true", help="the cases that the tests run; writes no page")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default: 0)")
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time (default: 2)")
    parser.add_argument("--work", type=Path, default=Path("runs/campaign"), help="folder of the state and of what cases write (default: runs/campaign)")
    parser.add_argument("--again", action="store_true", help="try again what ended as it should not")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    parts = options.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"unknown parts {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
    if not 0 < options.share <= 1 or options.jobs < 1:
        parser.error("--share lies between 0 and 1, --jobs is 1 or more")
    prepare()
    chosen = choose(parts, options)
    state = State(options.work / "state.jsonl", {"seed": options.seed, "short": options.short}, again=options.again)
    todo = [case for case in chosen if case.key not in state.done]
    say(options, f"{len(chosen)} cases, {len(chosen) - len(todo)} of them done")
    started = time.monotonic()
    try:
        play(todo, options, state)
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on")
    rows = table({case.key: case for case in chosen}, state.done)
    wrong = {key: record for key, record in state.done.items() if key in {case.key for case in chosen} and not record["right"]}
    if options.json:
        print(json.dumps({"benchmark": "campaign", "seed": options.seed, "rows": rows, "wrong": wrong}))
    else:
        text = page(rows, wrong)
        print(text)
        say(options, f"{time.monotonic() - started:.0f} s")
        if set(parts) == set(PARTS) and options.share == 1 and not (options.short or options.case):
            RESULTS.write_text(text, encoding="utf-8")
    sys.exit(1 if wrong else 0)


def prepare() -> None:
    """Import what the cases need, once for all of them, and start no thread: forks would lack it."""
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "MPLBACKEND": "Agg"}
    os.environ.pop("OPENAI_API_KEY", None)  # servers here echo keys: only made-up ones
    import matplotlib.pyplot as plt
    import torch

    from steptool_agents.algorithms import ALGORITHMS, load_algorithm
    from steptool_agents.models.loading import load_model

    import steptool_agents.experiments.cells  # noqa: F401  # isort: skip

    torch.set_num_threads(1)
    for name in ALGORITHMS:
        load_algorithm(name)
    load_model("tiny")  # transformers builds tables at the first one
    figure = plt.figure()
    figure.text(0, 0, "fonts")
    figure.canvas.draw()
    plt.close(figure)


def choose(parts: Iterable[str], options: argparse.Namespace) -> list[Case]:
    """Return the cases of these parts that the options ask for."""
    chosen: list[Case] = []
    for part in parts:
        cases = importlib.import_module(f"campaign_parts.{part}").cases(options.seed)
        chosen += [case for case in cases if case.short] if options.short else pick(cases, options.share)
    return [case for case in chosen if options.case in case.key]


class State:
    """The outcomes so far: a file with one line for each, after a first line that says of which campaign.

    Args:
        path: The file; made if it is missing.
        about: What the outcomes depend on.
        again: Forget those that were wrong.
    """

    def __init__(self, path: Path, about: dict[str, Any], *, again: bool = False) -> None:
        self.path, self.done = path, dict[str, dict[str, Any]]()
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(json.dumps(about) + "\n", encoding="utf-8")
        whole = path.read_bytes().rpartition(b"\n")[0]  # the last line of a killed campaign may be half a line
        first, *lines = whole.decode().split("\n")
        if json.loads(first) != about:
            sys.exit(f"{path} is the state of another campaign, {first}; use another --work")
        for line in lines:
            record = json.loads(line)
            if record["right"] or not again:
                self.done[record.pop("key")] = record
        path.write_bytes(whole + b"\n")

    def add(self, case: Case, outcome: Outcome, seconds: float) -> None:
        """Keep an outcome."""
        record = {**vars(outcome), "seconds": round(seconds, 2)}
        self.done[case.key] = record
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"key": case.key, **record}) + "\n")


def play(todo: list[Case], options: argparse.Namespace, state: State) -> None:
    """Try the cases, ``jobs`` at a time."""
    waiting, running = todo[::-1], list[Child]()
    try:
        while waiting or running:
            while waiting and len(running) < options.jobs:
                case = waiting.pop()
                work = (options.work / "cases" / case.part / f"{case.kind}-{case.name}".replace(" ", "-").replace("/", "-")).absolute()
                running.append(Child(case, importlib.import_module(f"campaign_parts.{case.part}").run, work))
            for child in list(running):
                if (ended := child.poll()) is not None:
                    running.remove(child)
                    state.add(child.case, *ended)
                    outcome, seconds = ended
                    mark = "" if outcome.right else "WRONG "
                    left = len(waiting) + len(running)
                    say(options, f"{left:>5} left  {mark}{child.case.key}: {outcome.ending}, {seconds:.1f} s  {outcome.detail if mark else ''}".rstrip())
            time.sleep(0.005)
    finally:
        for child in running:
            end(child.process, group=True)


# ---------------------------------------------------------------- the table
def table(cases: dict[str, Case], done: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for every kind: how many cases, how they ended, what was counted, how many were wrong."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for key, case in cases.items():
        if key not in done:
            continue
        record = done[key]
        new = {"part": case.part, "kind": case.kind, "cases": 0, "endings": Counter(), "counts": Counter(), "wrong": 0, "seconds": 0.0}
        row = rows.setdefault((case.part, case.kind), new)
        row["cases"] += 1
        row["endings"][record["ending"]] += 1
        row["counts"].update(record["counts"])
        row["wrong"] += not record["right"]
        row["seconds"] += record["seconds"]
    return list(rows.values())


def page(rows: list[dict[str, Any]], wrong: dict[str, dict[str, Any]]) -> str:
    """Return the results file."""
    command = shlex.join(["python", "benchmarks/campaign.py", *sys.argv[1:]])
    text = f"# The campaign: what does not break\n\n`{command}`\n\n"
    text += "| part | kind | cases | how they ended | counted | not as it should be | CPU s |\n|---|---|--:|---|---|--:|--:|\n"
    for row in rows:
        endings, counts = (", ".join(f"{name} {count:,}" for name, count in sorted(row[of].items())) for of in ("endings", "counts"))
        text += f"| {row['part']} | {row['kind']} | {row['cases']:,} | {endings} | {counts} | {row['wrong']} | {row['seconds']:.0f} |\n"
    total = sum(row["cases"] for row in rows)
    text += (
        f"\nIn all {total:,} cases, {sum(row['wrong'] for row in rows)} of them not as they should be, in {sum(row['seconds'] for row in rows):.0f} s of CPU.\n"
    )
    for key, record in wrong.items():
        text += f"\n- {key}: {record['ending']}: {' '.join(record['detail'].split())[:500]}"
    return text.rstrip() + "\n"


def say(options: argparse.Namespace, text: str) -> None:
    if not options.json:
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
