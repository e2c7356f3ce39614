"""benchmarks/tutorial_model.py: the tutorial, its recorded run, and the page belong together."""

from __future__ import annotations

import itertools
import json
import shlex
from pathlib import Path

import pytest
from benchmark_files import load
from project import ROOT

from steptool_agents import Config, read_jsonl
from steptool_agents.cli.options import pairs

model = load("tutorial_model")
RUN = json.loads((model.DATA / "results.json").read_text(encoding="utf-8"))


def test_what_was_recorded_is_the_command_of_the_tutorial() -> None:
    words = model.command()
    assert words[:4] == ["steptool", "train", "--model", "smollm2"]
    assert RUN["command"] == shlex.join(words)
    assert f"    {shlex.join(words)}\n" in model.RESULTS.read_text(encoding="utf-8")
    Config.of(**pairs([value for flag, value in itertools.pairwise(words) if flag == "--set"], "--set"))


def test_the_page_says_what_the_tutorial_shows() -> None:
    page = model.RESULTS.read_text(encoding="utf-8")
    for title, values in RUN["success"].items():
        assert f"| {title} | {sum(values) / len(values):.1%} (" in page
    assert f"in {RUN['seconds']} seconds" in page


def test_the_recorded_run_is_small_and_whole() -> None:
    assert sum(path.stat().st_size for path in model.DATA.iterdir()) < 300_000
    assert list(RUN["success"]) == list(model.STAGES.values())
    first, *trained = (len(values) for values in RUN["success"].values())
    assert first == model.ZERO_SHOT <= trained[0] == trained[1]
    for stage, title in model.STAGES.items():
        episodes = read_jsonl(model.DATA / f"{stage}.jsonl")
        assert [one.success for one in episodes[: model.KEPT]] == RUN["success"][title][: model.KEPT]
        assert RUN["call"]["task"] in [one.task.id for one in episodes]
        assert len(RUN["call"]["probabilities"][title]) == len(RUN["call"]["tokens"])


def test_a_run_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second start resumes; both count."""
    run, started = tmp_path / "run", []

    class Ended:
        returncode = 0

    def start(arguments: list[str], **_: object) -> Ended:
        started.append(arguments[3:])
        run.mkdir(exist_ok=True)
        (run / "config.json").touch()
        if len(started) == 2:
            (run / "report.json").touch()
        return Ended()

    monkeypatch.setattr(model.subprocess, "run", start)
    assert model.train(model.command(), tmp_path, run, threads=1) >= 0.0
    assert started == [model.command()[1:], ["train", "--resume", "--out", "run"]]
    assert len(json.loads((tmp_path / "seconds.json").read_text(encoding="utf-8"))) == 2
    assert not (ROOT / "run").exists()
