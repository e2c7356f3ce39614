"""Long runs: 20,000 episodes and 200 updates, after which a process holds no more memory, objects, threads or files than after a tenth of them."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from campaign_parts.cases import Case, Outcome
from campaign_parts.runs import settings_of

__all__ = ["cases", "run"]

EPISODES, UPDATES = 20_000, 200
MEMORY, OBJECTS = 24, 3000
"""What may be more in the end: MB that the allocator keeps, and objects of caches that are still filling up."""


def cases(seed: int) -> list[Case]:
    """Return the long runs."""
    kinds = {"random play": (EPISODES, 600), "solutions": (EPISODES, 0), "slow tools": (EPISODES // 4, 0), "updates": (UPDATES, 0)}
    return [Case("growth", kind, str(count), seed, {"count": count}, limit=1800, short=kind == "random play") for kind, (count, _) in kinds.items()]


def run(case: Case, work: Path) -> Outcome:
    """Run, look after a tenth, run on, look again."""
    count = case.options["count"] // (20 if case.short else 1)
    measured: list[dict[str, int]] = []

    def look(done: int) -> None:
        if done in (count // 10, count):
            measured.append(_held())

    {"random play": _random, "solutions": _solutions, "slow tools": _timed, "updates": _updates}[case.kind](count, case.seed, work, look)
    before, after = measured
    more = {name: after[name] - before[name] for name in before}
    grown = {name: by for name, by in more.items() if by > {"MB": MEMORY, "objects": OBJECTS}.get(name, 0)}
    counts = {"times": count, **{f"more {name}": max(0, by) for name, by in more.items()}}
    if grown:
        return Outcome(False, "grown", f"from {before} to {after}", counts)
    return Outcome(True, "not grown", f"from {before} to {after}", counts)


def _held() -> dict[str, int]:
    gc.collect()
    # Memory that was freed and that the allocator keeps for later is not held: after 45 updates it is 20 MB, and 4 MB without it.
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "MB": pages * os.sysconf("SC_PAGE_SIZE") // 1_000_000,
        "objects": len(gc.get_objects()),
        "threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
    }


def _random(count: int, seed: int, work: Path, look: Callable[[int], None]) -> None:
    from steptool_env import StepToolEnv, make_suite

    env = StepToolEnv(make_suite("worlds", level=2, size=200), "steptool")
    env.action_space.seed(seed)
    for done in range(1, count + 1):
        env.reset(seed=seed if done == 1 else None)
        while not any(env.step(env.action_space.sample())[2:4]):
            pass
        look(done)


def _solutions(count: int, seed: int, work: Path, look: Callable[[int], None]) -> None:
    from steptool_env import StepToolEnv, make_suite

    env = StepToolEnv(make_suite("worlds", level=2, size=200), "steptool")
    for done in range(1, count + 1):
        env.reset(seed=seed if done == 1 else None)
        while not any(env.step(env.solution()[0])[2:4]):
            pass
        env.restore(env.snapshot())
        look(done)


def _timed(count: int, seed: int, work: Path, look: Callable[[int], None]) -> None:
    """Tools with a time limit, some of them over it, some raising: each may hold a thread no longer than it runs."""
    import time

    from steptool_env import ToolCall, Toolkit, tool

    @tool(timeout=0.002)
    def work_on(number: int) -> int:
        """Take a while now and then."""
        if number % 100 == 0:
            time.sleep(0.01)
        if number % 7 == 0:
            raise ValueError(number)
        return number

    toolkit = Toolkit([work_on])
    for done in range(1, count + 1):
        toolkit.execute(ToolCall("work_on", {"number": done}))
        if done in (count // 10, count):
            time.sleep(0.2)
        look(done)


def _updates(count: int, seed: int, work: Path, look: Callable[[int], None]) -> None:
    from steptool_agents.algorithms import algorithm_settings, load_algorithm
    from steptool_agents.config import Layer, configure
    from steptool_agents.runs.run import Run

    settings: dict[str, Any] = {**settings_of("step-ppo", seed), "updates": count, "episodes": 2, "minibatches": 1}
    config = configure([Layer("campaign", settings)], algorithm_settings).config
    save = Run.save

    def saved(self: Run, *arguments: Any, **options: Any) -> None:
        save(self, *arguments, **options)
        look(self.update)

    Run.save = saved  # type: ignore[method-assign]
    load_algorithm("step-ppo")(config, work / "run")
