"""One writer per folder: a second one is refused by name, and one that was killed blocks nobody."""

from __future__ import annotations

import os
import platform
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from grids import SMALL
from lms import TINY  # noqa: F401  # sets one thread
from project import ROOT

from steptool_agents.algorithms.step_ppo import train
from steptool_agents.config import Config
from steptool_agents.experiments.grid import METHODS, Spec, cell_folder, run_grid
from steptool_agents.runs.folder import read_config
from steptool_agents.runs.lock import WriterLock
from steptool_agents.runs.run import Run
from steptool_env.errors import CheckpointError

CONFIG = Config.of(**{**SMALL, "demos": 0, "updates": 0, "eval_episodes": 1, "report_to": "none"})
LIMIT = 120.0
"""Seconds that a test waits for another process before it gives up."""


def holding(folder: Path) -> subprocess.Popen[str]:
    """Return a process that holds the lock of a folder."""
    program = "from pathlib import Path\nfrom steptool_agents.runs.lock import WriterLock\n"
    program += f"lock = WriterLock(Path({str(folder)!r}))\nprint('held', flush=True)\ninput()"
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str], how: signal.Signals) -> None:
    process.send_signal(how)
    process.communicate(timeout=LIMIT)


def test_a_second_writer_is_told_who_the_first_one_is(tmp_path: Path) -> None:
    process = holding(tmp_path / "run")
    try:
        with pytest.raises(CheckpointError, match=rf"run is being written by process {process.pid} on {re.escape(platform.node())} since 2\d\d\d-"):
            WriterLock(tmp_path / "run")
    finally:
        end(process, signal.SIGKILL)
    assert (tmp_path / "run" / ".lock").exists(), "it was killed, so it could not remove it"
    with WriterLock(tmp_path / "run"), pytest.raises(CheckpointError, match="is being written by this process since"):
        WriterLock(tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


def test_a_writer_may_wait(tmp_path: Path) -> None:
    process = holding(tmp_path)
    with pytest.raises(CheckpointError, match="is being written"):
        WriterLock(tmp_path, wait=0.05)
    assert process.stdin is not None
    process.stdin.write("\n")  # it ends by itself
    process.stdin.flush()
    WriterLock(tmp_path, wait=LIMIT).release()
    end(process, signal.SIGKILL)


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_is_written_by_one_process(tmp_path: Path, resume: bool) -> None:
    out = tmp_path / "run"
    if resume:
        train(CONFIG, out)
    process = holding(out)
    before = sorted(out.rglob("*"))
    try:
        with pytest.raises(CheckpointError, match=f"is being written by process {process.pid} "):
            train(CONFIG, out, resume=resume)
        assert sorted(out.rglob("*")) == before
    finally:
        end(process, signal.SIGKILL)
    train(CONFIG, out, resume=resume)
    assert not (out / ".lock").exists()


def test_two_runs_in_one_process(tmp_path: Path) -> None:
    with Run(CONFIG, tmp_path / "run"), pytest.raises(CheckpointError, match="is being written by this process"):
        Run(CONFIG, tmp_path / "run", resume=True)
    with Run(read_config(tmp_path / "run"), tmp_path / "run", resume=True):
        pass


@pytest.mark.slow
def test_a_grid_is_run_by_one_process(tmp_path: Path) -> None:
    spec = Spec(methods={"SFT": METHODS["SFT"]}, settings=SMALL, splits={"held-out": {}}, searches=["greedy"], faults=[], tasks=2, budget=4)
    process = holding(tmp_path / "grid")
    try:
        with pytest.raises(CheckpointError, match=f"grid is being written by process {process.pid} "):
            run_grid(spec, tmp_path / "grid")
    finally:
        end(process, signal.SIGKILL)
    process = holding(cell_folder(tmp_path / "grid", "SFT", 0))  # what a killed grid left at work is waited for
    started: list[float] = []
    try:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert run_grid(spec, tmp_path / "grid", on_cell=lambda *_: started.append(time.monotonic())) == []
    finally:
        end(process, signal.SIGKILL)
    assert len(started) == 1


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_the_cells_of_a_killed_grid_end_with_it(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from steptool_agents.experiments.grid import METHODS, Spec, run_grid
settings = {SMALL!r} | {{"demos": 100_000}}  # it would be at work for many minutes
spec = Spec(methods={{"SFT": METHODS["SFT"]}}, settings=settings, searches=["greedy"], faults=[])
run_grid(spec, Path({str(tmp_path / "grid")!r}), processes=1)
"""
    grid = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    config = cell_folder(tmp_path / "grid", "SFT", 0) / "run" / "config.json"
    try:
        limit = time.monotonic() + LIMIT
        while not config.exists():
            assert grid.poll() is None and time.monotonic() < limit, "the cell has not begun"
            time.sleep(0.02)
        (cell,) = _children(tmp_path)
    finally:
        grid.kill()
        grid.wait(LIMIT)
    while (Path("/proc") / str(cell)).exists() and str(tmp_path) in _command(cell):
        assert time.monotonic() < limit, "the cell is still at work"
        time.sleep(0.02)


def _children(tmp_path: Path) -> list[int]:
    """Return the cells that are at work in a folder."""
    numbers = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [number for number in numbers if "steptool_agents.experiments.cells" in _command(number) and str(tmp_path) in _command(number)]


def _command(process: int) -> str:
    try:
        return (Path("/proc") / str(process) / "cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
