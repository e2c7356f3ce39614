"""Training runs that are killed: small ones, in forked processes that count their own events, and what must be equal in the end.

An event is a change of the file system (an audit hook sees it), a pass through a module of the network, or the end of the program. A kill
is planned as "the n-th event of a phase", so that a seed finds the same moment again, and lands also where a clock would hardly hit.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from campaign_parts.cases import end, fork

__all__ = ["PHASES", "SETTINGS", "Plan", "attempt", "differences", "draw", "leftovers", "settings_of", "train"]

SETTINGS: dict[str, Any] = {
    "suite_options": {"level": 1},
    "demos": 4,
    "demo_batch": 4,
    "updates": 2,
    "episodes": 4,
    "eval_episodes": 1,
    "max_steps": 3,
    "minibatches": 2,
    "epochs": 1,
    "value_passes": 2,
    "max_new_tokens": 32,
    "report_to": "none",
}
"""The smallest runs that still have everything: warm start, two updates with two optimizer steps each, checkpoints, evaluations."""

GROUPED = ("rloo", "grpo", "process-grpo", "mt-grpo", "gigpo", "gigpo-std", "eto", "trajectory-dpo")

_PHASES = {
    "imitate_oracle": "warm start",
    "write_warm_start": "writing the warm start",
    "save_checkpoint": "writing a checkpoint",
    "write_report": "writing the report",
    "log": "writing metrics",
    "write_config": "writing the settings",
    "evaluate": "evaluation",
    "collect": "rollout",
    "rollout": "rollout",
    "__iter__": "update",
    "_evaluate": "evaluation",
    "train": "between",
    "run_cell": "between",
}
"""Function of the package -> the phase that it is. Of those on the stack the innermost counts."""
PHASES = (*dict.fromkeys(_PHASES.values()), "exit")
_PACKAGE = f"{os.sep}steptool_agents{os.sep}", f"{os.sep}agents{os.sep}"
_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link"}


@dataclass(frozen=True)
class Plan:
    """When a run is killed: at the n-th event of a phase, or after so many seconds."""

    phase: str = ""
    number: int = 0
    seconds: float = 0.0


def settings_of(algo: str, seed: int, **changes: Any) -> dict[str, Any]:
    """Return the settings of a small run of an algorithm."""
    settings = {**SETTINGS, "algo": algo, "seed": seed, **changes}
    if algo in GROUPED:
        settings["group"] = 4
    if algo in ("step-reinforce", "archer-lite", "ppo-final", *GROUPED):
        settings.pop("value_passes")  # they have their own
    if algo == "archer-lite":
        settings["algo_options"] = {"warmup": 1}
    return settings


def train(settings: Mapping[str, Any], out: Path) -> None:
    """Begin a run, or go on with it."""
    from steptool_agents.algorithms import algorithm_settings, load_algorithm
    from steptool_agents.config import Layer, configure

    config = configure([Layer("campaign", dict(settings))], algorithm_settings).config
    load_algorithm(config.learning.algo)(config, out, resume=(out / "config.json").exists(), console=None)


class _Watch:
    """Counts the events of this process, and ends it at the one of the plan."""

    def __init__(self, out: Path, plan: Plan | None, tally: Path | None) -> None:
        self.out, self.plan, self.tally, self.phases = str(out), plan, tally, Counter[str]()

    def start(self) -> None:
        import torch

        sys.addaudithook(self._file)
        torch.nn.modules.module.register_module_forward_pre_hook(lambda module, inputs: self.tick())

    def _file(self, event: str, values: tuple[Any, ...]) -> None:
        if event in _EVENTS and any(isinstance(value, (str, os.PathLike)) and os.fspath(value).startswith(self.out) for value in values[:2]):
            if event == "open" and values[1] is not None and not set(str(values[1])) & set("wax+"):
                return
            self.tick()

    def tick(self, phase: str = "") -> None:
        phase = phase or _phase()
        self.phases[phase] += 1
        if self.plan is not None and phase == self.plan.phase and self.phases[phase] == self.plan.number:
            os.kill(os.getpid(), signal.SIGKILL)

    def finish(self) -> None:
        self.tick("exit")
        if self.tally is not None:
            self.tally.write_text(json.dumps(self.phases), encoding="utf-8")


def _phase() -> str:
    frame = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if code.co_name in _PHASES and any(folder in code.co_filename for folder in _PACKAGE):
            return _PHASES[code.co_name]
        frame = frame.f_back  # type: ignore[assignment]
    return "start"


def attempt(program: Any, out: Path, plan: Plan | None = None, *, tally: Path | None = None, processes: int = 1, victim: int = 0, log: Path) -> int:
    """Run a program in forked processes until it ends or the plan kills it.

    Args:
        program: Called without arguments in each of the processes.
        out: The folder whose files count.
        plan: When one of them is killed; None lets them end.
        tally: Where it writes how many events each phase had.
        processes: How many there are, as under ``accelerate launch``. When one is killed, the others are ended, as it does, too.
        victim: Which of them is killed, and tallies.
        log: Gets what they write.

    Returns:
        The exit code of the first process that did not end well; negative: the signal that it was killed with.
    """

    def watched(rank: int) -> None:
        watch = _Watch(out, *((plan, tally) if rank == victim else (None, None)))
        watch.start()
        program()
        watch.finish()

    port = _free_port() if processes > 1 else 0
    children = []
    for rank in range(processes):

        def start(rank: int = rank) -> None:
            if processes > 1:
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
                os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
            watched(rank)

        children.append(fork(start, log))
    started, codes = time.monotonic(), dict[int, int]()
    while len(codes) < len(children):
        for child in children:
            if child not in codes and (found := os.waitpid(child, os.WNOHANG))[0]:
                codes[child] = os.waitstatus_to_exitcode(found[1])
        if any(codes.values()) or (plan is not None and plan.seconds and time.monotonic() - started > plan.seconds):
            for child in children:
                if child not in codes:
                    end(child)
        time.sleep(0.002)
    return next((code for code in (codes[child] for child in children) if code), 0)


def draw(rng: random.Random, events: Mapping[str, int], seconds: float, phases: Sequence[str] = (), *, clock: bool = True) -> Plan:
    """Return a moment: mostly an event of a phase that is drawn first, so that short phases are hit as often as long ones.

    Args:
        rng: Draws.
        events: Phase -> how many events it has in a run that nobody kills.
        seconds: How long such a run takes.
        phases: Of which one is drawn; none: of all, and some by the clock.
        clock: Whether some are drawn by the clock; these are other moments every time.
    """
    if clock and not phases and rng.random() < 0.25:
        return Plan(seconds=rng.uniform(0.02, max(0.05, seconds)))
    phase = rng.choice(sorted(set(phases) & events.keys() if phases else events))
    return Plan(phase, rng.randint(1, events[phase]))


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


# ---------------------------------------------------------------- what must be equal
def differences(expected: Path, found: Path) -> list[str]:
    """Return in what two finished runs differ: weights, moments, random states, metrics, report, episodes, settings, leftovers."""
    from steptool_agents.runs.checkpoint import list_checkpoints, load_checkpoint
    from steptool_agents.runs.folder import read_config, read_warm_start
    from steptool_agents.runs.trackers import read_metrics

    wrong = []
    if list_checkpoints(expected) != list_checkpoints(found):
        wrong.append(f"checkpoints {list_checkpoints(found)} instead of {list_checkpoints(expected)}")
    for update in set(list_checkpoints(expected)) & set(list_checkpoints(found)):
        (_, tensors, state), (_, its, its_state) = load_checkpoint(expected, update), load_checkpoint(found, update)
        wrong += [f"update {update}: {what}" for what in _unequal(tensors, its)]
        wrong += [f"update {update}: the state's {name}" for name in _unequal_values(state, its_state)]
    wrong += [f"warm start: {what}" for what in _unequal(read_warm_start(expected), read_warm_start(found))]
    rows, its_rows = (list(map(_without_times, read_metrics(run))) for run in (expected, found))
    if str(rows) != str(its_rows):  # as text, because NaN differs from itself
        wrong.append(f"metrics: {len(its_rows)} rows for {len(rows)}, or other values")
    reports = [json.loads((run / "report.json").read_text(encoding="utf-8")) for run in (expected, found)]
    wrong += [f"report: {name}" for name in _unequal_values(*({k: v for k, v in one.items() if k not in ("run", "seconds")} for one in reports))]
    for name in ("before", "trajectories"):
        contents = [(run / f"{name}.jsonl").read_bytes() if (run / f"{name}.jsonl").exists() else b"" for run in (expected, found)]
        wrong += [name] if contents[0] != contents[1] else []
    settings = [{k: v for k, v in read_config(run).flat().items() if not k.startswith("rollout.server")} for run in (expected, found)]
    wrong += [f"settings: {name}" for name in _unequal_values(*settings)]
    return wrong + [f"left over: {name}" for name in leftovers(found)]


def leftovers(run: Path) -> list[str]:
    """Return temporary files and folders that nobody removed."""
    paths = run.rglob("*")
    return sorted(str(path.relative_to(run)) for path in paths if path.name.startswith((".new-", ".old-")) or path.name.endswith((".tmp", ".old")))


def _without_times(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.startswith(("seconds", "tokens_per_second", "share"))}


def _unequal(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return what differs between tensors, to the last bit."""
    if expected.keys() != found.keys():
        return [f"the names of {len(expected.keys() ^ found.keys())} tensors"]
    different = [name for name, one in expected.items() if one.shape != found[name].shape or _bytes(one) != _bytes(found[name])]
    return [f"{len(different)} tensors, {different[0]} among them"] if different else []


def _bytes(tensor: Any) -> bytes:
    import torch

    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())


def _unequal_values(expected: Mapping[str, Any], found: Mapping[str, Any], path: str = "") -> list[str]:
    names = []
    for name in sorted(set(expected) | set(found)):
        one, other = expected.get(name), found.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            names += _unequal_values(one, other, f"{path}{name}.")
        elif json.dumps(one) != json.dumps(other):
            names.append(path + name)
    return names
