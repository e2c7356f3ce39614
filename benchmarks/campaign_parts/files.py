"""Files of runs and grids that are damaged, one at a time, and then read back by the commands that read them.

Right is: it is noticed and said in a sentence, or it does no harm and everything is as without. Wrong is a traceback, or another result without
a word. Files that people may edit and pass on (episodes, reports) have no checksum: there, what can be read is taken as it stands.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from campaign_parts.cases import Case, Outcome, fork
from campaign_parts.kills import GRID
from campaign_parts.runs import SETTINGS, differences, settings_of, train

__all__ = ["cases", "run"]

CHECKPOINT = "checkpoints/update-00000001"
RUN = ("config.json", "metrics.jsonl", "warm_start.safetensors", *(f"{CHECKPOINT}/{name}" for name in ("manifest.json", "state.json", "tensors.safetensors")))
GRID_FILES = (
    "spec.json",
    *(f"cells/steptool-0/{name}" for name in ("evaluations/held-out-greedy.jsonl", "evaluations/held-out-greedy.json", "run/config.json")),
)
READERS: dict[str, tuple[str, ...]] = {
    "resumed": RUN,
    "evaluated": tuple(name for name in RUN if name != "metrics.jsonl"),
    "viewed": ("trajectories.jsonl",),
    "learned from": ("trajectories.jsonl",),
    "tabled": GRID_FILES,
}
AS_IT_STANDS = ("trajectories.jsonl", "evaluations/held-out-greedy.jsonl", "evaluations/held-out-greedy.json", "spec.json")
"""Files without a checksum: what can be read is taken as it stands."""
DAMAGES = {"bit": 3, "cut": 2, "empty": 1, "doubled": 1, "another's": 1, "deep": 1, "huge number": 1, "noise": 1, "missing": 1, "folder": 1}
"""Damage -> how often it is drawn."""
SHORT = ("resumed/tensors.safetensors/bit/0", "resumed/state.json/cut/0", "evaluated/manifest.json/cut/0", "viewed/trajectories.jsonl/huge number/0")


def cases(seed: int) -> list[Case]:
    """Return every damage of every file, for every command that reads it."""
    made = []
    for reader, files in READERS.items():
        for file in files:
            for damage, count in DAMAGES.items():
                for number in range(count):
                    name = f"{file.rpartition('/')[2]}/{damage}/{number}"
                    options = {"file": file, "damage": damage}
                    made.append(Case("files", reader, name, seed + len(made), options, 300, short=f"{reader}/{name}" in SHORT))
    return made


def run(case: Case, work: Path) -> Outcome:
    """Damage a file of a copy, and let the command read it."""
    made = _made(work.parent, grid=case.kind == "tabled")
    out, log = work / "run", work / "log.txt"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(made / ("grid" if case.kind == "tabled" else "half"), out)
    harm(out / case.options["file"], case.options["damage"], random.Random(case.seed), made / "other" / case.options["file"])
    code = _steptool(_arguments(case.kind, out, work), log, work)
    said, file = log.read_text(encoding="utf-8", errors="replace") if log.exists() else "", Path(case.options["file"]).name
    if "Traceback" in said:
        return Outcome(False, "raw", f"{said.strip().splitlines()[-1][:300]} … {said[-1200:]}")
    if code:
        words = re.search(r"steptool: .*", said, re.DOTALL)
        return Outcome(code > 0 and words is not None, "said" if words else f"ended with {code} without a word", said[-600:])
    wrong = _compared(case.kind, made, out, work)
    if not wrong:
        outcome = Outcome(True, "harmless")
    elif file in "".join(_new_lines(case.kind, made, work)):
        outcome = Outcome(True, "said, and went on", said[-600:])
    elif case.options["file"].endswith(AS_IT_STANDS):
        outcome = Outcome(True, "taken as it stands")
    else:
        outcome = Outcome(False, "silent", "; ".join(wrong[:5]))
    if outcome.right:
        shutil.rmtree(work)
    return outcome


def harm(file: Path, damage: str, rng: random.Random, other: Path) -> None:
    """Damage a file; ``other`` is the file of the same name of another run."""
    data = file.read_bytes()
    place = rng.randrange(len(data))
    match damage:
        case "bit":
            # Most of a file of tensors is numbers; a half of the flips goes to its head, where the names are.
            place = rng.randrange(min(len(data), 4000)) if rng.random() < 0.5 else place
            data = data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]
        case "cut":
            data = data[:place]
        case "empty":
            data = b""
        case "doubled":
            lines = data.split(b"\n")
            row = rng.randrange(max(1, len(lines) - 1))
            data = b"\n".join([*lines[: row + 1], *lines[row:]])
        case "another's":
            data = other.read_bytes()
        case "deep":
            data = data.split(b"\n")[0] + b"\n" + b'{"a": ' * 100_000 if file.suffix == ".jsonl" else b"[" * 100_000 + b"]" * 100_000
        case "huge number":
            found = list(re.finditer(rb"(?<![\w.])\d+(?![\w.])", data[:100_000]))
            chosen = rng.choice(found) if found else None
            data = data[: chosen.start()] + b"1" + b"0" * 400 + data[chosen.end() :] if chosen else b"1" + b"0" * 400
        case "noise":
            data = rng.randbytes(len(data))
        case "missing":
            file.unlink()
            return
        case "folder":  # as unreadable as a file without permissions, which the superuser reads all the same
            file.unlink()
            file.mkdir()
            return
    file.write_bytes(data)


# ---------------------------------------------------------------- what is damaged
def _made(folder: Path, *, grid: bool) -> Path:
    """Return the folder of what is damaged and what it is compared with; made once."""
    made = folder / ("reference-grid" if grid else "reference-run")
    made.mkdir(exist_ok=True)
    with open(made / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (made / "done").exists():
            return made
        for name in ("half", "whole", "other", "grid"):
            shutil.rmtree(made / name, ignore_errors=True)
        log = made / "log.txt"
        if grid:
            _steps([lambda: _table(made / "grid", 0), lambda: _table(made / "other", 1)], log)
        else:
            half = {**settings_of("step-ppo", 0), "updates": 1}
            _steps([lambda: train(half, made / "half"), lambda: train({**half, "seed": 1}, made / "other")], log)
            shutil.copytree(made / "half", made / "whole")
        for kind in ("tabled",) if grid else ("resumed", "evaluated", "viewed", "learned from"):
            target = {"tabled": "grid", "resumed": "whole"}.get(kind, "half")
            if code := _steptool(_arguments(kind, made / target, made), log, made):
                raise RuntimeError(f"undamaged, it ended with {code}: {log.read_text()[-1500:]}")
            (made / "out.txt").rename(made / f"out-{kind.split()[0]}.txt")
        (made / "done").touch()
    return made


def _steps(programs: list[Callable[[], None]], log: Path) -> None:
    for program in programs:
        _, status = os.waitpid(fork(program, log), 0)
        if status:
            raise RuntimeError(f"it could not be made: {log.read_text()[-1500:]}")


def _table(out: Path, seed: int) -> None:
    from dataclasses import asdict

    from steptool_agents.experiments.cells import run_cell
    from steptool_agents.experiments.grid import Spec
    from steptool_env.files import write_json

    spec = Spec(GRID, [seed], dict(SETTINGS), {"held-out": {}}, searches=["greedy"], faults=[], tasks=2, budget=3)
    out.mkdir(parents=True)
    write_json(out / "spec.json", asdict(spec))
    for method in spec.methods:
        run_cell(spec, out, method, seed)
    for cell in list((out / "cells").iterdir()):
        cell.rename(cell.with_name(cell.name.rpartition("-")[0] + "-0"))


# ---------------------------------------------------------------- how it is read
def _arguments(kind: str, out: Path, work: Path) -> list[str]:
    return {
        "resumed": ["train", "--resume", "--out", str(out), "--updates", "2"],
        "evaluated": ["eval", "--run", str(out), "--episodes", "2", "--json"],
        "viewed": ["view", str(out / "trajectories.jsonl"), "--episode", "0", "--full"],
        "tabled": ["table", "--from", str(out), "--json"],
        "learned from": [
            *("train", "--algo", "step-ppo-offline", "--out", str(work / "learned"), "--json"),
            *(part for name, value in {**SETTINGS, "data": str(out / "trajectories.jsonl")}.items() for part in ("--set", f"{name}={json.dumps(value)}")),
        ],
    }[kind]


def _steptool(arguments: list[str], log: Path, work: Path) -> int:
    """Run the command in a fork; what it prints goes to ``out.txt`` in ``work`` as well as to the log."""

    def main() -> None:
        from steptool_agents import cli

        sys.argv = ["steptool", *arguments]
        os.environ["COLUMNS"] = "200"
        cli.main()

    work.mkdir(parents=True, exist_ok=True)
    (work / "out.txt").unlink(missing_ok=True)
    _, status = os.waitpid(fork(main, work / "out.txt"), 0)
    with open(log, "ab") as target:
        target.write((work / "out.txt").read_bytes())
    return os.waitstatus_to_exitcode(status)


def _compared(kind: str, made: Path, out: Path, work: Path) -> list[str]:
    if kind == "resumed":
        return differences(made / "whole", out)
    expected, found = _printed(kind, made, work)
    return [] if expected == found else [f"it printed {found[:300]!r} instead of {expected[:300]!r}"]


def _new_lines(kind: str, made: Path, work: Path) -> list[str]:
    """Return what was printed beyond what is printed without damage."""
    expected, found = _printed(kind, made, work)
    return [line for line in found.splitlines() if line not in expected.splitlines()]


def _printed(kind: str, made: Path, work: Path) -> tuple[str, str]:
    """Return what is printed without damage, and what was, without the folders and the times in it."""

    def plain(text: str) -> str:
        for name in (str(made), str(work), "/half", "/whole", "/run", "/grid"):
            text = text.replace(name, "")
        return re.sub(r'"?seconds[^,}]*|[\d,.]+ tokens/s|\d+ s\b', "", text)

    expected, found = (plain(file.read_text(encoding="utf-8")) for file in (made / f"out-{kind.split()[0]}.txt", work / "out.txt"))
    return expected, found
