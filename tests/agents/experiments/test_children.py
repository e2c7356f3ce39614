"""Processes for parts of an experiment."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from steptool_agents.experiments import children


@pytest.fixture
def run_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """Return what runs a program as a part of an experiment, with ``deep/log.txt`` as its log, and returns its exit status."""
    package = tmp_path / "parts"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(children, "__package__", "parts")

    def run(program: str) -> int:
        (package / "part.py").write_text(program)
        with children.pipe() as alive:
            return children.run_child("part", log=tmp_path / "deep" / "log.txt", alive=alive)

    return run


@pytest.mark.parametrize(
    ("number", "said"),
    [(signal.SIGKILL, "ended by Killed (signal 9); systems do this when memory runs out"), (signal.SIGTERM, "ended by Terminated (signal 15).")],
)
def test_the_log_says_what_killed_a_process(run_part: Callable[[str], int], tmp_path: Path, number: signal.Signals, said: str) -> None:
    assert run_part(f"import os\nprint('begun', flush=True)\nos.kill(os.getpid(), {int(number)})\n") == -number
    begun, last = (tmp_path / "deep" / "log.txt").read_text().split("\n\n")
    assert begun == "begun"
    assert said in last


def test_a_process_that_ends_by_itself_has_its_own_words_only(run_part: Callable[[str], int], tmp_path: Path) -> None:
    assert run_part("raise SystemExit(3)\n") == 3
    assert (tmp_path / "deep" / "log.txt").read_text() == ""
