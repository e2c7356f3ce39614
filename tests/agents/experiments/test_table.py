"""The grid and the table: cells resume, finished ones stay, and every number comes from stored episodes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from episodes import episode
from grids import SMALL
from lms import TINY  # noqa: F401  # sets one thread

from steptool_agents import cli
from steptool_agents.config.presets import PRETRAINED_CHAINS
from steptool_agents.experiments import children, table
from steptool_agents.experiments.cells import run_cell, without_tokens
from steptool_agents.experiments.grid import METHODS, Spec, cell_folder, evaluations, read_spec, run_grid, suite_of
from steptool_agents.experiments.layout import as_csv, as_markdown, write
from steptool_agents.experiments.pictures import draw_curves
from steptool_agents.experiments.table import build
from steptool_agents.rollouts.evaluate import summarize
from steptool_agents.runs.folder import read_warm_start
from steptool_agents.trajectory import Trajectory, read_jsonl, write_jsonl
from steptool_env.errors import CheckpointError, InvalidArgument, UnknownName
from steptool_env.tasks.worlds import Worlds
from steptool_env.types import Task, ToolCall


def spec(**changes: Any) -> Spec:
    methods = {name: METHODS[name] for name in ("SFT", "StepTool")}
    return Spec(**{"methods": methods, "settings": SMALL, "splits": {"held-out": {}}, "faults": [], "tasks": 4, "budget": 6, **changes})


def stored(out: Path, solved: dict[str, list[list[float]]], faults: dict[float, list[float]] | None = None) -> None:
    """Write a finished grid with these verdicts: method -> per seed, per task; under faults the same for all: rate -> per task."""
    faults = faults or {}
    made = spec(methods={name: METHODS[name] for name in solved}, seeds=[0, 1], searches=["greedy"], faults=[{"rate": rate} for rate in faults])
    out.mkdir(exist_ok=True)
    (out / "spec.json").write_text(json.dumps(made.__dict__))
    suite = Worlds(level=1, split="test")
    for method, seeds in solved.items():
        for seed, verdicts in enumerate(seeds):
            folder = cell_folder(out, method, seed)
            (folder / "run").mkdir(parents=True)
            (folder / "run" / "report.json").write_text(json.dumps({"seconds": 10.0 * (seed + 1), "env_steps": 100, "model_tokens": 1000}))
            (folder / "evaluations").mkdir()
            for one in evaluations(made, folder):
                played = faults.get(one.faults.get("rate", 0.0), verdicts)
                write_jsonl(one.episodes, [episode(suite[k * 2500], ("", 0.0, 0.5), solved=verdict) for k, verdict in enumerate(played)])
                one.costs.write_text(json.dumps({"calls": 4.0, "env_steps": 4.0, "tokens": 40.0, "seconds": 1.0}))


# ---------------------------------------------------------------- the table
def test_the_table_by_hand(tmp_path: Path) -> None:
    stored(tmp_path, {"SFT": [[1, 0, 0, 0], [0, 0, 0, 0]], "StepTool": [[1, 1, 0, 1], [0, 1, 1, 1]]})
    made = build(tmp_path)
    rows = {row["method"]: row for row in made["rows"]}
    assert (rows["SFT"]["success"], rows["StepTool"]["success"]) == (1 / 8, 6 / 8)
    assert rows["SFT"]["train_seconds"] == 15.0  # the mean of 10 and 20
    assert rows["SFT"]["eval_calls"] == 4.0
    assert rows["StepTool"]["recall"] == 0.0  # finish alone was called
    (against,) = (one for one in made["differences"] if one["tasks"] == "all")
    assert (against["against"], against["mean"]) == ("SFT", 5 / 8)
    assert against["low"] <= 5 / 8 <= against["high"]
    # Episodes of one call each, a finish that contributes where it solves: the share of calls is the share of tasks.
    assert against["accuracy_mean"] == pytest.approx(5 / 8)
    (gain,) = (one for one in made["gains"] if one["tasks"] == "all")
    assert (gain["method"], gain["mean"], gain["accuracy_mean"]) == ("StepTool", 5 / 8, pytest.approx(5 / 8))
    assert gain["corrected_low"] == pytest.approx(gain["low"], abs=0.05), "one comparison: nothing to correct, other draws"
    assert gain["comparisons"] == 1
    by_depth = [one for one in made["horizon"] if one["method"] == "StepTool"]
    assert sum(one["mean"] * one["tasks"] for one in by_depth) == pytest.approx(3.0)  # 6 of 8 over two seeds of 4 tasks


def test_intervals_are_corrected_for_the_methods_that_are_planned(tmp_path: Path) -> None:
    stored(tmp_path, {"SFT": [[1, 0, 0, 1], [0, 0, 1, 0]], "StepTool": [[1, 1, 0, 1], [0, 1, 1, 1]]}, {0.4: [0, 1, 0, 1]})
    alone, among = build(tmp_path), build(tmp_path, ["SFT", "RFT", "ETO", "PPO (final)", "StepTool"])
    for name in ("differences", "gains"):
        assert {row["comparisons"] for row in alone[name]} == {1}
        assert {row["comparisons"] for row in among[name]} == {4}
        for one, other in zip(alone[name], among[name], strict=True):
            assert (one["mean"], one["low"], one["high"]) == (other["mean"], other["low"], other["high"])
            assert other["corrected_low"] <= one["corrected_low"] <= one["corrected_high"] <= other["corrected_high"]
    widths = []
    for made in (alone, among):
        (lead,) = (row for row in made["robustness"] if row["method"] == "SFT" and not row["faults"])
        widths.append(lead["lead_corrected_high"] - lead["lead_corrected_low"])
    assert widths[0] < widths[1]


def test_what_is_written(tmp_path: Path) -> None:
    stored(tmp_path, {"SFT": [[1, 0, 0, 0]] * 2, "StepTool": [[1, 1, 1, 1]] * 2})
    made = build(tmp_path)
    assert {path.name for path in write(made, tmp_path)} == {"table.md", "table.csv", "table.json", "horizon.png", "profiles.png"}
    text = as_markdown(made)
    assert "| method | greedy, held-out |" in text
    assert "| StepTool | 100.0 (100 to 100) / 0.0 |" in text
    assert "+75.0 (" in text
    head, first, _ = as_csv(made).splitlines()
    assert head.startswith("method,split,search,seeds,success_low")
    assert first.startswith("SFT,held-out,greedy,0 1,")
    assert json.loads((tmp_path / "table.json").read_text()) == json.loads(json.dumps(made))


def test_the_curve_under_faults(tmp_path: Path) -> None:
    stored(tmp_path, {"SFT": [[1, 0, 0, 0]] * 2, "StepTool": [[1, 1, 1, 1]] * 2}, {0.125: [1, 0, 1, 0], 0.4: [0, 0, 0, 0]})
    made = build(tmp_path)
    curve = {(one["method"], one["faults"].get("rate", 0.0)): one["mean"] for one in made["robustness"] if one["method"] != "oracle"}
    assert curve == {(method, rate): mean for method, first in (("SFT", 0.25), ("StepTool", 1.0)) for rate, mean in ((0.0, first), (0.125, 0.5), (0.4, 0.0))}
    assert len(made["rows"]) == 2, "plays under faults are no rows of the table"
    assert "robustness.png" in {path.name for path in write(made, tmp_path)}
    text = as_markdown(made)
    assert "| method | 0 % | 12.5 % | 40 % |" in text
    assert "| StepTool | 100.0 (100 to 100) | 50.0 (" in text


def test_a_loss_is_measured_on_the_tasks_that_were_played_with_and_without_faults(tmp_path: Path) -> None:
    stored(tmp_path, {"SFT": [[1, 0, 1, 1]] * 2, "StepTool": [[1, 1, 1, 0]] * 2}, {0.4: [0, 1]})
    made = build(tmp_path)
    rows = {(one["method"], one["faults"].get("rate", 0.0)): one for one in made["robustness"]}
    assert (rows["SFT", 0.0]["mean"], rows["StepTool", 0.0]["mean"]) == (0.5, 1.0), "of the first two tasks"
    assert (rows["SFT", 0.4]["loss_mean"], rows["StepTool", 0.4]["loss_mean"]) == (0.0, 0.5)
    assert (rows["SFT", 0.4]["lead_mean"], rows["SFT", 0.4]["more_lost_mean"]) == (0.0, 0.5)
    assert {row["method"]: row["success"] for row in made["rows"]} == {"SFT": 0.75, "StepTool": 0.75}, "of all four"


def test_other_splits_and_conditions_may_have_fewer_tasks() -> None:
    made = spec(splits={"held-out": {}, "deeper": {"split": "compositions"}}, searches=["greedy"], faults=[{"rate": 0.1}], fewer_tasks=2)
    assert [(one.split, one.faults, one.tasks) for one in evaluations(made, Path())] == [("held-out", {}, 4), ("deeper", {}, 2), ("held-out", {"rate": 0.1}, 2)]
    assert {one.tasks for one in evaluations(replace(made, fewer_tasks=None), Path())} == {4}


def test_the_pictures_show_every_interval(tmp_path: Path) -> None:
    stored(tmp_path, {"SFT": [[1, 0, 0, 0], [0, 0, 0, 0]], "StepTool": [[1, 1, 0, 1], [0, 1, 1, 1]]})
    horizon = [({**row, "x": row["depth"]}, f"{row['search']}, {row['split']}") for row in build(tmp_path)["horizon"]]
    (axes,) = draw_curves(horizon, ("calls that a task needs", "success"), "StepTool").axes
    for method, container in zip(("SFT", "StepTool"), axes.containers, strict=True):
        rows = sorted((row for row, _ in horizon if row["method"] == method), key=lambda row: row["x"])
        line, _, (bars,) = container.lines
        assert line.get_ydata().tolist() == [row["mean"] for row in rows]
        assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [pytest.approx([row["low"], row["high"]]) for row in rows]
        assert abs(line.get_xdata() - [row["x"] for row in rows]).max() < 0.5, "beside the depth that it belongs to"
    assert any(row["low"] < row["mean"] < row["high"] for row, _ in horizon)


def test_a_table_is_about_tasks_of_many_depths_and_deeper_ones() -> None:
    made = Spec()
    config = made.config("StepTool", 0)
    depths = {name: {suite_of(made, config, name)[k].tags["depth"] for k in range(60)} for name in made.splits}
    assert depths == {"held-out": {1, 2, 3, 4, 5, 6}, "deeper": {7, 8}}
    assert Spec(settings={"suite_options": {"level": 3}}).config("SFT", 0).task.suite_options == {"level": 3}
    assert Spec(settings={"model.name": "smollm2"}).config("SFT", 0).task.suite_options == PRETRAINED_CHAINS
    assert Spec(settings={"suite": "bfcl"}).config("SFT", 0).task.suite_options == {}


def test_splits_may_be_slices() -> None:
    made = spec(splits={"validation": {"split": "train", "size": 30, "slice": [20, 30]}, "held-out": {}})
    config = made.config("SFT", 0)
    assert [suite_of(made, config, "validation")[k].id for k in (0, 9)] == ["worlds-1-train-20", "worlds-1-train-29"]
    assert suite_of(made, config, "held-out")[0].id == "worlds-1-test-0"


def test_a_method_has_the_seeds_that_are_finished_and_is_named_where_it_has_none(tmp_path: Path) -> None:
    stored(tmp_path, {"SFT": [[1, 0, 0, 0]] * 2, "StepTool": [[1, 1, 1, 1]] * 2})
    next((cell_folder(tmp_path, "StepTool", 1) / "evaluations").glob("*.json")).unlink()
    made = build(tmp_path)
    assert [(row["method"], row["seeds"]) for row in made["rows"]] == [("SFT", [0, 1]), ("StepTool", [0])]
    (all_tasks,) = (one for one in made["differences"] if one["tasks"] == "all")
    assert (all_tasks["seeds"], all_tasks["mean"]) == (1, 0.75), "over the seed that both have"
    assert "| StepTool (1 seed) |" in as_markdown(made)
    assert "Not finished" not in as_markdown(made)
    next((cell_folder(tmp_path, "StepTool", 0) / "evaluations").glob("*.json")).unlink()
    made = build(tmp_path)
    assert ([row["method"] for row in made["rows"]], made["missing"], made["differences"]) == (["SFT"], ["StepTool"], [])
    assert "Not finished, and left out: StepTool." in as_markdown(made)
    for seed in (0, 1):
        next((cell_folder(tmp_path, "SFT", seed) / "evaluations").glob("*.json")).unlink()
    with pytest.raises(CheckpointError, match=r"no method of .* is finished"):
        table.build(tmp_path)


def test_the_command_rebuilds_it(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    stored(tmp_path / "t", {"SFT": [[1, 0, 0, 0]] * 2, "StepTool": [[1, 1, 1, 1]] * 2})
    monkeypatch.setattr("sys.argv", ["steptool", "table", "--from", str(tmp_path / "t"), "--json"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "t" / "table.json").read_text())


def test_the_command_reads_the_settings_of_a_search(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text, message in (("a.json", "{", "holds no settings"), ("b.json", '{"RFT": {"knobs": {}}}', "unknown method of this search 'SFT'")):
        (tmp_path / name).write_text(text)
        monkeypatch.setattr("sys.argv", ["steptool", "table", "--out", str(tmp_path / "t"), "--settings", str(tmp_path / name)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code
        assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "t").exists()


# ---------------------------------------------------------------- the grid
@pytest.mark.slow
def test_a_cell_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = spec(searches=["greedy", "dfsdt"], faults=[{"rate": 1.0}])
    run_cell(made, tmp_path, "SFT", 0)
    run_cell(made, tmp_path, "StepTool", 0)
    fitted, taken = (read_warm_start(cell_folder(tmp_path, method, 0) / "run") for method in made.methods)
    assert fitted.keys() == taken.keys()
    assert all(torch.equal(fitted[name], taken[name]) for name in fitted), "taken over, not fitted again"
    greedy, dfsdt, failing = evaluations(made, cell_folder(tmp_path, "StepTool", 0))
    before = greedy.episodes.stat().st_mtime_ns
    costs = json.loads(dfsdt.costs.read_text())
    assert 1 <= costs["calls"] <= 6
    assert len(read_jsonl(dfsdt.episodes)) == 4
    results = [step.transition for one in read_jsonl(failing.episodes) for step in one.steps]
    assert all(one.result.error for one in results if not isinstance(one.action, ToolCall) or one.action.name != "finish")
    assert failing.episodes.name == "held-out-greedy-faults-100.jsonl"
    dfsdt.costs.unlink()
    monkeypatch.setattr("steptool_agents.load_algorithm", lambda name: pytest.fail("trained again"))
    run_cell(made, tmp_path, "StepTool", 0)
    assert dfsdt.costs.exists()
    assert greedy.episodes.stat().st_mtime_ns == before
    assert not any(step.generation.token_ids for one in read_jsonl(greedy.episodes) for step in one.steps)


def test_an_episode_without_tokens_says_the_same_about_its_calls() -> None:
    plain = episode(Task("t", "?", ("look",), 3), ("", 0.0, 0.5), ("bad_arguments", 0.5, 0.5), ("", 0.5, 1.0), solved=1.0)
    tokens: dict[str, Any] = {"prompt_ids": (1, 2), "token_ids": (3, 4), "logprobs": (-0.1, -0.2), "value": 0.3, "forced": (0, 1), "importance": (1.0, 1.0)}
    played = Trajectory(tuple(replace(step, generation=replace(step.generation, **tokens)) for step in plain.steps))
    assert without_tokens(played) == plain
    assert summarize([without_tokens(played)]) == summarize([played])


@pytest.mark.slow
def test_cells_are_processes(tmp_path: Path) -> None:
    made = spec(methods={"SFT": METHODS["SFT"], "RFT": METHODS["RFT"]}, searches=["greedy"])
    for state in ("done", "was done"):
        seen: list[tuple[str, int, str]] = []
        assert run_grid(made, tmp_path, processes=2, on_cell=lambda *what, seen=seen: seen.append(what)) == []
        assert seen == [("SFT", 0, state), ("RFT", 0, state)]
    assert [row["method"] for row in build(tmp_path)["rows"]] == ["SFT", "RFT"]


def test_finished_cells_start_no_process_and_failed_ones_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(tmp_path, {"SFT": [[1, 0, 0, 0]] * 2, "StepTool": [[1, 1, 1, 1]] * 2})
    made = read_spec(tmp_path)
    next((cell_folder(tmp_path, "StepTool", 1) / "evaluations").glob("*.json")).unlink()
    started: list[list[str]] = []

    class Died:
        returncode = 1

    monkeypatch.setattr(children.subprocess, "run", lambda command, **_: started.append(command) or Died())
    seen: list[tuple[str, int, str]] = []
    failed = run_grid(made, tmp_path, processes=1, on_cell=lambda *what: seen.append(what))
    assert [command[-2:] for command in started] == [["StepTool", "1"]]
    assert failed == [cell_folder(tmp_path, "StepTool", 1)]
    assert sorted(seen) == [("SFT", 0, "was done"), ("SFT", 1, "was done"), ("StepTool", 0, "was done"), ("StepTool", 1, "failed")]


def test_methods_and_seeds_may_come_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(tmp_path, {"SFT": [[1, 0, 0, 0]] * 2, "StepTool": [[1, 1, 1, 1]] * 2})
    started: list[list[str]] = []

    class Ended:
        returncode = 0

    monkeypatch.setattr(children.subprocess, "run", lambda command, **_: started.append(command) or Ended())
    run_grid(spec(methods={"SFT": METHODS["SFT"], "RFT": METHODS["RFT"]}, seeds=[0, 2], searches=["greedy"]), tmp_path, processes=1)
    assert [tuple(command[-2:]) for command in started] == [("SFT", "2"), ("RFT", "0"), ("RFT", "2")], "what is asked for, and is not there"
    grid = read_spec(tmp_path)
    assert (list(grid.methods), grid.seeds) == (["SFT", "StepTool", "RFT"], [0, 1, 2])


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no grid of runs"):
        build(tmp_path)
    with pytest.raises(UnknownName, match="unknown setting 'lrr'"):
        run_grid(spec(settings={"lrr": 1}), tmp_path / "x")
    assert not (tmp_path / "x").exists()
    stored(tmp_path / "y", {"SFT": [[1, 0, 0, 0]] * 2})
    with pytest.raises(CheckpointError, match=r"another spec\.json, with other searches, tasks"):
        run_grid(spec(tasks=5), tmp_path / "y")
    with pytest.raises(CheckpointError, match=r"another spec\.json, with other SFT"):
        run_grid(spec(methods={"SFT": {"algo": "sft", "demos": 3}}, searches=["greedy"]), tmp_path / "y")
    with pytest.raises(InvalidArgument, match="'SFT' and 'sft' would write into the same folder"):
        run_grid(spec(methods={"sft": METHODS["SFT"]}, searches=["greedy"]), tmp_path / "y")
    assert list(read_spec(tmp_path / "y").methods) == ["SFT"]
    with pytest.raises(InvalidArgument, match="unknown method 'PPO'"):
        spec().config("PPO", 0)
