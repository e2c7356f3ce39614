"""Processes for parts of an experiment."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from steptool_agents.experiments import children


@pytest.mark.parametrize(
    ("name", "said"), [("SIGKILL", "ended by Killed (signal 9); systems do this when memory runs out"), ("SIGTERM", "ended by Terminated (signal 15).")]
)
def test_the_log_says_what_killed_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str) -> None:
    package = tmp_path / "dying"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "part.py").write_text("import os, sys\nprint('begun', flush=True)\nos.kill(os.getpid(), int(sys.argv[1]))\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(children, "__package__", "dying")
    number = getattr(signal, name)
    with children.pipe() as alive:
        code = children.run_child("part", str(int(number)), log=tmp_path / "log.txt", alive=alive)
    assert code == -number
    begun, *rest = (tmp_path / "log.txt").read_text().split("\n\n")
    assert begun == "begun"
    assert said in rest[0]


def test_a_process_that_ends_by_itself_has_its_own_words_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "failing"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "part.py").write_text("raise SystemExit(3)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(children, "__package__", "failing")
    with children.pipe() as alive:
        assert children.run_child("part", log=tmp_path / "deep" / "log.txt", alive=alive) == 3
    assert (tmp_path / "deep" / "log.txt").read_text() == ""
