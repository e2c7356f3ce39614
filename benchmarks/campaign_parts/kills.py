"""Runs that are killed with SIGKILL, several times, and resumed: what they leave in the end is what they would have left without.

Every algorithm, a grid, two processes, and a model server run in forks of this process, which has imported torch; some sequences kill the
commands ``steptool train`` and ``steptool table`` themselves.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from campaign_parts.cases import Case, Outcome
from campaign_parts.model_server import model_server
from campaign_parts.runs import SETTINGS, attempt, differences, draw, leftovers, settings_of, train

__all__ = ["cases", "run"]

ALGORITHMS = (
    *("sft", "rft", "step-ppo", "step-ppo-offline", "ppo-final", "turn-ppo", "step-reinforce", "rloo", "grpo", "process-grpo", "mt-grpo"),
    *("gigpo", "gigpo-std", "eto", "trajectory-dpo", "archer-lite"),
)
EACH = 14
"""Sequences of every algorithm."""
OTHERS = {"grid": 24, "two processes": 20, "model server": 20, "steptool train": 16, "steptool table": 6, "playing ahead": 12}
SHORT = ("step-ppo/11", "archer-lite/3", "playing ahead/11")
WITHIN = ("update", "between", "rollout")
"""Phases in which a run that plays ahead is killed: it learns from episodes, and those of the next update are being played, or were."""
GRID = {"SFT": {"algo": "sft"}, "StepTool": {"algo": "step-ppo"}}


def cases(seed: int) -> list[Case]:
    """Return all sequences."""
    kinds = {**dict.fromkeys(ALGORITHMS, EACH), **OTHERS}
    drawn = [(kind, number) for kind, count in kinds.items() for number in range(count)]
    return [
        Case("kills", kind, str(number), seed=seed + 1000 * place + number, limit=900, short=f"{kind}/{number}" in SHORT)
        for place, (kind, number) in enumerate(drawn)
    ]


def run(case: Case, work: Path) -> Outcome:
    """Kill a run, resume it, and so on; compare what it leaves with a run that nobody killed."""
    rng = random.Random(case.seed)
    with ExitStack() as stack:
        if case.kind == "steptool train":
            outcome = _command(case, work, rng, _train_command, differences)
        elif case.kind == "steptool table":
            outcome = _command(case, work, rng, _table_command, _grids_differ)
        elif case.kind == "grid":
            reference = _reference(work.parent, "grid", _grid)
            outcome = _sequence(work / "grid", rng, _grid, reference, _grids_differ, clock=not case.short)
        else:
            processes = 2 if case.kind == "two processes" else 1
            ahead = case.kind == "playing ahead"
            served = dict.fromkeys(("model server", "playing ahead"), "step-ppo")
            algo = {"two processes": ("step-ppo", "grpo", "eto")[case.seed % 3], **served}.get(case.kind, case.kind)
            settings = settings_of(algo, case.seed % 2)
            if case.kind in served:
                settings |= {"servers": stack.enter_context(model_server()), "overlap": 1 if ahead else case.seed % 2}
            if ahead:
                # The second update has episodes that were played ahead, and plays ahead itself.
                settings |= {"updates": 3, "episodes": 2, "max_new_tokens": 12}
            if algo == "step-ppo-offline":
                data = _reference(work.parent, "data", lambda out: train(settings_of("step-ppo", 9), out))
                settings["data"] = str(data / "out" / "trajectories.jsonl")

            def program(out: Path) -> None:
                train(settings, out)

            reference = _reference(work.parent, f"{case.kind}-{algo}-{case.seed % 2}".replace(" ", "-"), program, processes)
            outcome = _sequence(work / "run", rng, program, reference, differences, processes, WITHIN if ahead else (), clock=not case.short)
    if outcome.right:
        shutil.rmtree(work)
    return outcome


# ---------------------------------------------------------------- in forks
def _reference(folder: Path, name: str, program: Callable[[Path], None], processes: int = 1) -> Path:
    """Return the folder of a run that nobody kills; it is made once, by whoever comes first."""
    made = folder / f"reference-{name}"
    made.mkdir(exist_ok=True)
    with open(made / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / "about.json").exists():
            shutil.rmtree(made / "out", ignore_errors=True)
            started = time.monotonic()
            code = attempt(lambda: program(made / "out"), made / "out", tally=made / "events.json", processes=processes, log=made / "log.txt")
            if code:
                raise RuntimeError(f"the run that nobody kills ended with {code}: {_tail(made / 'log.txt')}")
            events = json.loads((made / "events.json").read_text())
            (made / "about.json").write_text(json.dumps({"events": events, "seconds": time.monotonic() - started}))
    return made


def _sequence(
    out: Path,
    rng: random.Random,
    program: Callable[[Path], None],
    reference: Path,
    compare: Callable[[Path, Path], list[str]],
    processes: int = 1,
    phases: Sequence[str] = (),
    clock: bool = True,
) -> Outcome:
    about, log = json.loads((reference / "about.json").read_text()), out.parent / "log.txt"
    kills: Counter[str] = Counter()
    wanted, tries = rng.randint(1, 4), 0
    while True:
        plan = draw(rng, about["events"], about["seconds"], phases, clock=clock) if kills.total() < wanted and tries < 20 else None
        tries += 1
        code = attempt(lambda: program(out), out, plan, processes=processes, victim=rng.randrange(processes), log=log)
        if plan is not None and code == -9:
            kills[plan.phase or "by the clock"] += 1
        elif code:
            return Outcome(False, "failed", f"after {dict(kills)} it ended with {code}: {_tail(log)}", _counted(kills))
        elif kills or tries >= 20:
            break
        else:  # it was done before its time had come
            shutil.rmtree(out)
    return _judged(compare(reference / "out", out), kills)


def _judged(wrong: list[str], kills: Counter[str]) -> Outcome:
    if not wrong:
        return Outcome(True, "identical", "", _counted(kills))
    return Outcome(False, "different", f"after {dict(kills)}: {'; '.join(wrong[:6])}", _counted(kills))


def _counted(kills: Counter[str]) -> dict[str, int]:
    return {"kills": kills.total(), **{f"kills, {phase}": count for phase, count in kills.items()}}


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-1500:] if log.exists() else "(it wrote nothing)"


def _grid(out: Path) -> None:
    """Run the cells of a grid one after the other in this process, those that are not finished."""
    from dataclasses import asdict

    from steptool_agents.experiments.cells import run_cell
    from steptool_agents.experiments.grid import Spec, cell_folder, finished
    from steptool_env.files import write_json

    settings = {name: value for name, value in SETTINGS.items() if name not in ("suite_options", "value_passes")}
    spec = Spec(GRID, [0], {**settings, "suite_options": {"level": 1}}, {"held-out": {}}, searches=["greedy"], faults=[{"rate": 0.3}], tasks=1, budget=3)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "spec.json", asdict(spec))
    for method in spec.methods:
        if not finished(spec, cell_folder(out, method, 0)):
            run_cell(spec, out, method, 0)


def _grids_differ(expected: Path, found: Path) -> list[str]:
    wrong = []
    cells = sorted(path.name for path in (expected / "cells").iterdir())
    if (its := sorted(path.name for path in (found / "cells").iterdir())) != cells:
        return [f"cells {its} instead of {cells}"]
    for cell in cells:
        one, other = expected / "cells" / cell, found / "cells" / cell
        wrong += [f"{cell}: {what}" for what in differences(one / "run", other / "run")]
        names = sorted(path.name for path in (one / "evaluations").iterdir() if path.is_file())
        if (its := sorted(path.name for path in (other / "evaluations").iterdir() if path.is_file())) != names:
            wrong.append(f"{cell}: evaluations {its} instead of {names}")
            continue
        wrong += [f"{cell}: {name}" for name in names if _evaluation(one / "evaluations" / name) != _evaluation(other / "evaluations" / name)]
    return wrong + [f"left over: {name}" for name in leftovers(found)]


def _evaluation(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return text if path.suffix == ".jsonl" else str({name: value for name, value in json.loads(text).items() if name != "seconds"})


# ---------------------------------------------------------------- the commands themselves
def _train_command(out: Path) -> list[str]:
    if (out / "config.json").exists():
        return ["train", "--resume", "--out", str(out)]
    return ["train", "--out", str(out), *_sets({**SETTINGS, "seed": 3})]


def _table_command(out: Path) -> list[str]:
    named = ["--method", "sft", "--method", "step-ppo", "--search", "greedy", "--tasks", "1", "--budget", "3", "--processes", "2"]
    return ["table", "--out", str(out), *named, *_sets(SETTINGS)]


def _sets(settings: dict[str, Any]) -> list[str]:
    return [part for name, value in settings.items() for part in ("--set", f"{name}={json.dumps(value)}")]


def _command(case: Case, work: Path, rng: random.Random, command: Callable[[Path], list[str]], compare: Callable[[Path, Path], list[str]]) -> Outcome:
    made = work.parent / f"reference-{case.kind.replace(' ', '-')}"
    made.mkdir(exist_ok=True)
    with open(made / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / "about.json").exists():
            shutil.rmtree(made / "out", ignore_errors=True)
            started, first = time.monotonic(), 0.0
            process = _start(command(made / "out"), made / "log.txt")
            while process.poll() is None:
                if not first and (made / "out").exists():
                    first = time.monotonic() - started
                time.sleep(0.01)
            if process.returncode:
                raise RuntimeError(f"the command that nobody kills ended with {process.returncode}: {_tail(made / 'log.txt')}")
            (made / "about.json").write_text(json.dumps({"first": first, "all": time.monotonic() - started}))
    seconds = json.loads((made / "about.json").read_text())
    out, log, kills, refused, wanted = work / "out", work / "log.txt", Counter[str](), 0, rng.randint(1, 3)
    while True:
        process = _start(command(out), log)
        if kills.total() < wanted:
            # Nothing can break before Python and torch are there.
            time.sleep(rng.uniform(0.9 * seconds["first"], seconds["all"]))
            if process.poll() is None:
                process.kill()
                process.wait()
                kills["of the command"] += 1
                continue
        if (code := process.wait()) == 0 and kills:
            break
        if code == 0:  # it was done before its time had come
            shutil.rmtree(out)
            continue
        said = _tail(log)
        if "Traceback" in said or refused == 60:
            return Outcome(False, "failed", f"after {dict(kills)} it ended with {code}: {said}", _counted(kills))
        refused += 1  # by a lock: what the killed one had started still runs, and is waited for
        time.sleep(1)
    outcome = _judged(compare(made / "out", out), kills)
    return Outcome(outcome.right, outcome.ending, outcome.detail, {**outcome.counts, "refused while another wrote": refused})


def _start(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as target:
        return subprocess.Popen([sys.executable, "-m", "steptool_agents", *arguments], stdout=target, stderr=target, env=environment)
