"""benchmarks/smollm2.py: its settings, its tables by hand, and a small run that is killed and goes on."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmark_files import load

from steptool_agents import Config, OraclePolicy, Trajectory, evaluate, read_config, read_jsonl
from steptool_agents.config import preset
from steptool_agents.rollouts.evaluate import oracle_calls
from steptool_agents.runs.folder import read_warm_start
from steptool_env import make_suite
from steptool_env.errors import StepToolError

smollm2 = load("smollm2")
tables = load("smollm2_tables")

CHAINS: dict[str, Any] = {"level": 2, "families": ["lookup", "change"], "split": "test"}
NOT_GIVEN: dict[str, Any] = {"level": None, "depth": None, "category": None, "option": None, "set": None, "max_steps": None}
SIZES = {"tasks": 200, "demos": 300, "demo_epochs": 2, "updates": 40, "episodes": 32}


def settings(suite: str, **given: Any) -> Config:
    config: Config = smollm2.settings(argparse.Namespace(**{"suite": suite, "model": "smollm2", "seed": 0, **SIZES, **NOT_GIVEN, **given}))
    return config


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


# ---------------------------------------------------------------- settings
def test_the_settings_are_those_of_the_preset_with_the_options_on_top() -> None:
    plain = Config.of(**preset("smollm2", "worlds"))
    config = settings("worlds")
    assert (config.task, config.warm_start.demo_options, config.rollout.max_new_tokens) == (
        plain.task,
        plain.warm_start.demo_options,
        plain.rollout.max_new_tokens,
    )
    assert (config.warm_start.demos, config.warm_start.demo_epochs, config.run.updates, config.rollout.episodes) == (300, 2, 40, 32)
    assert settings("worlds", tasks=7).run.eval_width == 7
    changed = ["lr=0.5", "run.updates=7"]
    config = settings("worlds", level=1, depth=[2, 2], option=['families=["lookup"]', "tools=3"], set=changed, max_steps=4)
    assert config.task.suite_options == {"level": 1, "depth": [2, 2], "families": ["lookup"], "tools": 3}
    assert (config.learning.lr, config.run.updates, config.task.max_steps) == (0.5, 7, 4)


def test_another_level_brings_its_own_depth() -> None:
    assert settings("worlds", model="tiny").task.suite_options["depth"] == [2, 4]
    assert "depth" not in settings("worlds", model="tiny", level=1).task.suite_options


def test_the_settings_of_the_published_table_of_bfcl() -> None:
    sizes = {"tasks": 80, "demos": 96, "demo_epochs": 2, "updates": 30, "episodes": 8}
    published = {**preset("smollm2", "bfcl"), "model.name": "smollm2", "suite": "bfcl", "suite_options": {"category": "simple"}}
    published |= {"demos": 96, "demo_epochs": 2, "updates": 30, "episodes": 8, "max_steps": 4, "eval_episodes": 1, "eval_width": 16}
    assert settings("bfcl", category="simple", max_steps=4, **sizes) == Config.of(**published)
    assert settings("bfcl").task.suite_options == {"category": "base"}


@pytest.mark.parametrize(
    ("suite", "given", "message"),
    [
        ("worlds", {"category": "simple"}, "--category is no option of worlds, which has --level and --depth"),
        ("bfcl", {"level": 2}, "--level is no option of bfcl, which has --category"),
        ("worlds", {"option": ["split=train"]}, "trains on the split train and tests on test, got --option split=train"),
        ("worlds", {"option": ["tools"]}, "--option takes NAME=VALUE, got 'tools'"),
        ("worlds", {"set": ["learning_rate=1"]}, "unknown setting 'learning_rate'"),
    ],
)
def test_options_that_do_not_fit(suite: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(StepToolError, match=message):
        settings(suite, **given)


def test_the_forecast_by_hand() -> None:
    config = Config.of(demos=30, demo_epochs=2, updates=10, episodes=12, epochs=1, value_passes=20)
    # 3 · 20 episodes · 2 s; 60 · 4 s; 132 · 2 s + 120 · 4 s
    said = smollm2.forecast(config, 20, 2.0, 4.0)
    assert "2 min for 60 held-out episodes, 4 min for 30 demonstrations, 12 min for 132 training episodes; 18 min in all" in said
    assert "12 min" not in smollm2.forecast(config.replace(epochs=2), 20, 2.0, 4.0)


# ---------------------------------------------------------------- tables
@pytest.fixture(scope="module")
def played() -> tuple[dict[str, list[Trajectory]], dict[str, tuple[str, ...]]]:
    """Eight tasks: the oracle solves all, ``half`` those with even numbers, ``nothing`` none."""
    suite, tasks = make_suite("worlds", **CHAINS), list(range(8))
    solved = evaluate(OraclePolicy(), suite, tasks)[1]
    failed = evaluate(smollm2.Nothing(), suite, tasks)[1]
    half = [(failed if index % 2 else solved)[index] for index in tasks]
    return {"trained": solved, "warm-start": half, "zero-shot": failed}, oracle_calls(suite, tasks)


def test_changes_by_hand(played: Any) -> None:
    episodes, calls = played
    lines = tables.changes(episodes, calls, "trained", {"zero-shot": "zero-shot", "warm-start": "warm start", "trained": "itself"})
    rows = {cells[1].strip(): [cell.strip() for cell in cells[2:-1]] for line in lines[2:] if (cells := line.split("|"))}
    assert rows["zero-shot"][0] == "+100.0 (+100.0 to +100.0)"
    assert rows["warm start"][0].startswith("+50.0 (+")
    assert set(rows["itself"]) == {"+0.0 (+0.0 to +0.0)"}
    # Of the tools that the solutions call, nothing called none; each of its episodes has one call.
    assert rows["zero-shot"][1] == "+100.0 (+100.0 to +100.0)"
    more = sum(len(one.steps) - 1 for one in episodes["trained"]) / 8
    assert rows["zero-shot"][3].startswith(f"{more:+.1f} (")


def test_success_by_depth_by_hand(played: Any) -> None:
    episodes, _ = played
    lines = tables.by_depth({"trained": "A", "warm-start": "B"}, episodes)
    depths = [one.task.tags["depth"] for one in episodes["trained"]]
    assert len(set(depths)) > 1
    assert lines[0] == f"| success by depth | {' | '.join(f'{depth} (n = {depths.count(depth)})' for depth in sorted(set(depths)))} |"
    shares = [sum(depths[index] == depth for index in range(0, 8, 2)) / depths.count(depth) for depth in sorted(set(depths))]
    assert [cell.split()[0] for cell in lines[2].split("|")[2:-1]] == ["100.0%"] * len(shares)
    assert [cell.split()[0] for cell in lines[3].split("|")[2:-1]] == [f"{share:.1%}" for share in shares]


def test_tasks_without_a_depth_have_no_table_of_it() -> None:
    from toy import Counting

    episodes = evaluate(OraclePolicy(), Counting(), [0, 1])[1]
    assert tables.by_depth({"a": "A"}, {"a": episodes}) == []


def test_the_main_table_shows_calls_and_seconds(played: Any) -> None:
    episodes, calls = played
    lines = tables.main_table({"zero-shot": "Z", "trained": "T"}, episodes, calls, {"trained": 2.25})
    zero, trained = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:])
    assert zero[0] == "Z" and zero[1] == "0.0% (0.0% to 0.0%)" and zero[5:] == ["1.0", "0.0%", ""]
    assert trained[1] == "100.0% (100.0% to 100.0%)" and trained[6:] == ["0.0%", "2.2"]


def test_costs_by_hand() -> None:
    updates = [
        {"seconds_rollout": 10.0, "seconds_update": 50.0, "tokens_per_second": 100.0, "seconds/generate": 10.0, "tokens/generate": 500.0},
        {"seconds_rollout": 20.0, "seconds_update": 40.0, "tokens_per_second": 300.0, "seconds/generate": 20.0, "tokens/generate": 1500.0},
    ]
    said, each, *_, generate, _ = tables.costs(60.0, updates, 90.0, 30.0)
    # The last start of the training took 90 s, all of its updates 120 s: it was resumed.
    assert said == "Wall time: 1.0 min for the warm start, 2.0 for the training, 0.5 for the held-out episodes; 3.5 min in all."
    assert each == "An update took 60.0 s, 15.0 to play and 45.0 to learn, at 200 tokens/s (median). Its phases:"
    assert generate == "| generate | 15.00 | 100.0 | 1,000 | 67 |"
    assert tables.costs(60.0, [], 180.0, 0.0) == ["Wall time: 1.0 min for the warm start, 3.0 for the training, 0.0 for the held-out episodes; 4.0 min in all."]


# ---------------------------------------------------------------- the command
def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["smollm2.py", "--model", "tiny", "--smoke", "--threads", "1", *options])
    smollm2.main()


@pytest.mark.usefixtures("threads")
def test_a_run_goes_on_where_it_was_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    options = ("--out", str(out), "--train-option", "depth=[2, 3]")
    run(monkeypatch, *options)
    first, table = capsys.readouterr(), (out / "table.md").read_text(encoding="utf-8")
    assert first.out.strip() == table.strip()
    assert "tiny on generated worlds, level 2" in table and "SMOKE RUN" in table and "| success by depth |" in table
    trained_on = {name: read_config(out / name).task.suite_options["depth"] for name in ("warm-start", "train")}
    assert trained_on == {"warm-start": [2, 4], "train": [2, 3]} and "; step-ppo: `depth=[2, 3]`. Means" in table
    fitted, taken = (read_warm_start(out / name) for name in ("warm-start", "train"))
    assert fitted.keys() == taken.keys() and all(torch.equal(fitted[name], taken[name]) for name in fitted)

    # Killed after the training, in the last row, and after one of its two tasks.
    weights = (out / "train" / "report.json").stat().st_mtime_ns
    episodes = read_jsonl(out / "trained.jsonl")
    (out / "trained.jsonl").write_text((out / "trained.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[0], encoding="utf-8")
    (out / "table.md").unlink()
    run(monkeypatch, *options)
    again = capsys.readouterr()
    assert (out / "train" / "report.json").stat().st_mtime_ns == weights
    assert "zero-shot: " not in again.err and "trained: 2 of 2" in again.err
    assert [one.success for one in read_jsonl(out / "trained.jsonl")] == [one.success for one in episodes]
    without_seconds = [line.rsplit("|", 2)[0] for line in table.splitlines() if line.startswith("| `tiny`")]
    assert [line.rsplit("|", 2)[0] for line in (out / "table.md").read_text(encoding="utf-8").splitlines() if line.startswith("| `tiny`")] == without_seconds

    # Other options belong into another folder.
    with pytest.raises(SystemExit):
        run(monkeypatch, *options, "--seed", "1")
    assert "holds a table with other options" in capsys.readouterr().err


def test_training_begins_with_the_warm_start_that_it_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from rich.console import Console

    config = settings("worlds", model="tiny", demos=2, updates=1, episodes=2, max_steps=3).replace(eval_width=1)
    begin = tmp_path / "warm-start"
    begin.mkdir()
    shutil.copy(smollm2.__file__, begin / "warm_start.safetensors")  # no weights: it shows that they are read
    with pytest.raises(StepToolError, match="is corrupt"):
        smollm2.train(config, tmp_path / "train", Console(quiet=True), begin=begin)
    assert not (tmp_path / "train").exists(), "a corrupt file is found before it is taken over"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tasks", "0", "--demos", "2"], "--tasks must lie in 1 to 10000"),
        (["--category", "simple"], "--category is no option of worlds"),
        (["--option", 'families=["compare"]'], "compare takes at least 3 calls"),  # deeper than the demonstrations
        (["--level", "9"], "level must be one of 1, 2, 3, 4, 5, got 9"),
    ],
)
def test_mistakes_show_before_anything_is_played(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["smollm2.py", "--out", str(tmp_path / "run"), *options])
    with pytest.raises(SystemExit):
        smollm2.main()
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()
