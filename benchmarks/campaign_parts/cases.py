"""A case of the campaign: what is tried, in a process of its own that may hang or die, and how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Case", "Child", "Outcome", "end", "fork", "pick"]


@dataclass(frozen=True)
class Case:
    """One thing that is tried.

    Args:
        part: The part of the campaign.
        kind: The row of the table that it is counted in.
        name: Tells it from the others of its part; with the part, its key in the state file.
        seed: Of everything that is drawn in it.
        options: What the part needs to know about it.
        limit: Seconds after which it counts as hung.
        short: Whether it belongs to the short campaign.
    """

    part: str
    kind: str
    name: str
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    limit: float = 300.0
    short: bool = False

    @property
    def key(self) -> str:
        return f"{self.part}/{self.kind}/{self.name}"


@dataclass(frozen=True)
class Outcome:
    """How a case ended.

    Args:
        right: Whether it ended as it should.
        ending: How, in a word or two that are counted: ``"identical"``, ``"said"``, ``"raised"`` …
        detail: What was said or seen; of a wrong one, what is needed to find the defect.
        counts: Further numbers for the table, such as the kills of a sequence; they are added up over the row.
    """

    right: bool
    ending: str
    detail: str = ""
    counts: dict[str, int] = field(default_factory=dict)


class Child:
    """A case that runs in a forked process, with a group of its own; ``poll`` says how it ended."""

    def __init__(self, case: Case, run: Callable[[Case, Path], Outcome], work: Path) -> None:
        self.case, self.started = case, time.monotonic()
        self.said, writer = os.pipe()
        self.process = os.fork()
        if self.process == 0:
            os.setpgid(0, 0)
            os.close(self.said)
            _one_thread()
            _answer(case, run, work, writer)
        os.close(writer)
        self._text = bytearray()

    def poll(self) -> tuple[Outcome, float] | None:
        """Return the outcome and the CPU seconds once the case has ended or is over its limit; None before."""
        late = time.monotonic() - self.started > self.case.limit
        while select.select([self.said], [], [], 0)[0]:
            if not (chunk := os.read(self.said, 65536)):
                break
            self._text += chunk
        else:
            if not late:
                return None
        os.close(self.said)
        end(self.process, group=True)
        _, status, usage = os.wait4(self.process, 0)
        seconds = usage.ru_utime + usage.ru_stime
        if late:
            return Outcome(False, "hung", f"still busy after {self.case.limit:g} s"), seconds
        try:
            record = json.loads(self._text)
        except ValueError:
            return Outcome(False, "died", f"its process ended with {os.waitstatus_to_exitcode(status)}"), seconds
        return Outcome(**record), max(seconds, record.get("counts", {}).pop("cpu_ms", 0) / 1000)


def _answer(case: Case, run: Callable[[Case, Path], Outcome], work: Path, writer: int) -> None:
    try:
        work.mkdir(parents=True, exist_ok=True)
        outcome = run(case, work)
    except BaseException as fault:  # the campaign goes on; whatever a case lets through is wrong
        said = "".join(traceback.format_exception(fault)[-4:])
        outcome = Outcome(False, "raised", f"{type(fault).__name__}: {said}"[-2000:])
    try:
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        spent = int(1000 * sum(one.ru_utime + one.ru_stime for one in usage))
        text = json.dumps({**vars(outcome), "counts": {**outcome.counts, "cpu_ms": spent}}).encode("utf-8", "replace")
        while text:
            text = text[os.write(writer, text) :]
    finally:
        os._exit(0)


def fork(program: Callable[[], None], log: Path | None = None) -> int:
    """Run a program in a forked process that ends with it, both its streams in ``log``; return the process's number.

    It exits with 0, with the code of a ``SystemExit``, or with 1 after an exception, whose traceback is written as Python writes it.
    """
    process = os.fork()
    if process:
        return process
    code = 1
    _one_thread()
    try:
        if log is not None:
            target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for stream in (1, 2):
                os.dup2(target, stream)
        program()
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:
        os.write(2, traceback.format_exc().encode("utf-8", "replace"))
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _one_thread() -> None:
    """Let torch replace the pool of threads that a fork has lost, before several threads try to at the same time."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)


def end(process: int, *, group: bool = False) -> None:
    """Kill a process of ours, or the group that it leads; one that has ended already is fine."""
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(process, signal.SIGKILL)


def pick(cases: list[Case], share: float) -> list[Case]:
    """Return an evenly spread share of the cases of every kind, at least one of each."""
    kinds: dict[str, list[Case]] = {}
    for case in cases:
        kinds.setdefault(case.kind, []).append(case)
    chosen: list[Case] = []
    for those in kinds.values():
        count = max(1, round(share * len(those)))
        chosen += [those[number * len(those) // count] for number in range(count)]
    return chosen
