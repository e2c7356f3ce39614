"""A run's folder: what is in it, and that a kill at any moment loses at most the update in progress."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lms import TINY  # sets one thread

from steptool_agents import load_algorithm
from steptool_agents.algorithms.step_ppo import train
from steptool_agents.config import Config
from steptool_agents.models.loading import load_model
from steptool_agents.runs.checkpoint import list_checkpoints, load_checkpoint
from steptool_agents.runs.folder import make_way, read_config, read_warm_start, write_config, write_warm_start
from steptool_agents.runs.policies import evaluated_policy, load_policy
from steptool_agents.runs.record import read_record
from steptool_agents.runs.run import Run
from steptool_agents.runs.trackers import read_metrics
from steptool_agents.show.report import report_page
from steptool_agents.trajectory import read_jsonl
from steptool_env.errors import CheckpointError, DataError, InvalidArgument, UnknownName

CONFIG = Config.of(
    suite_options={"level": 1}, demos=8, demo_batch=4, updates=3, episodes=4, eval_episodes=4, eval_width=3, max_new_tokens=12, max_steps=3, seed=5, kl=0.01
)
FILES = {
    *("config.json", "metrics.jsonl", "warm_start.safetensors", "checkpoints", "before.jsonl", "trajectories.jsonl"),
    *("report.json", "report.html", "learning_curve.png"),
}


class Killed(BaseException):
    """What a test stops a run with: nothing in the package catches it."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return a run that nobody interrupted, and its report."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return out, train(CONFIG, out)


def lines(out: Path) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if not name.startswith(("seconds", "tokens_per_second", "share"))} for line in read_metrics(out)]


def same(one: Path, other: Path) -> None:
    """Both runs have measured, learnt and played the same, to the last bit."""
    assert lines(one) == lines(other)
    (update, weights, state), (its_update, its_weights, its_state) = load_checkpoint(one), load_checkpoint(other)
    assert update == its_update
    assert weights.keys() == its_weights.keys()
    assert all(torch.equal(weight, its_weights[name]) for name, weight in weights.items())
    assert state["run"] == its_state["run"]
    assert state["run"]["warm_loss"] > 0
    for name in ("before.jsonl", "trajectories.jsonl"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    assert timeless_page(one) == timeless_page(other)


def timeless_page(out: Path) -> str:
    """Return the report of a run as if it had taken no time."""
    record = read_record(out, "run")
    assert record.report is not None
    return report_page([record._replace(metrics=lines(out), report={**record.report, "seconds": 0.0})])


def stop_at(monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> None:
    """Let a function that ``step_ppo`` or ``run`` calls stop the run at its n-th call."""
    module = sys.modules[name.rpartition(".")[0]]
    function = getattr(module, name.rpartition(".")[2])
    count = [0]

    def stop(*args: Any, **kwargs: Any) -> Any:
        count[0] += 1
        if count[0] == call:
            raise Killed
        return function(*args, **kwargs)

    monkeypatch.setattr(name, stop)


# ---------------------------------------------------------------- a whole run
def test_what_a_run_leaves_behind(finished: tuple[Path, dict[str, Any]]) -> None:
    out, report = finished
    assert {path.name for path in out.iterdir()} >= FILES
    assert not list(out.glob("*.tmp"))
    assert any(path.name.startswith("events.out.tfevents") for path in out.iterdir())
    assert read_config(out) == CONFIG
    assert json.loads((out / "report.json").read_text()) == report
    assert report["updates"] == 3
    assert report["before"]["episodes"] == report["after"]["episodes"] == 4
    for name in ("before.jsonl", "trajectories.jsonl"):
        assert [one.task.id for one in read_jsonl(out / name)] == [f"worlds-1-test-{k * 2500}" for k in range(4)]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page == report_page([read_record(out)])  # from the files alone, byte for byte
    assert "Plays worlds, level 1, all 13 families" in page and "3 updates" in page and "<td>learning.kl</td>" in page


def test_what_a_run_measures(finished: tuple[Path, dict[str, Any]]) -> None:
    out, _ = finished
    measured = lines(out)
    assert [line["update"] for line in measured] == [0, 1, 2]
    names = "success reward call_success call_accuracy steps masked action_tokens policy_loss value_loss entropy clip_fraction approx_kl kl grad_norm".split()
    for line in measured:
        assert set(names) < set(line)
        assert all(math.isfinite(line[name]) for name in names)
        assert line["reward"] == pytest.approx(sum(value for name, value in line.items() if name.startswith("reward/")))


def test_the_same_seed_gives_the_same_run(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    train(CONFIG, tmp_path / "again")
    same(tmp_path / "again", finished[0])
    train(CONFIG.replace(seed=6, updates=1), tmp_path / "other")
    assert lines(tmp_path / "other")[0] != lines(finished[0])[0]


def test_the_trained_policy(finished: tuple[Path, dict[str, Any]]) -> None:
    out, _ = finished
    policy, config = load_policy(out)
    assert (policy.temperature, config) == (0.0, CONFIG)
    weights = load_checkpoint(out)[1]
    assert all(torch.equal(weight, weights[f"model.{name}"]) for name, weight in policy.lm.trainable().items())
    before, _ = load_policy(out, warm_start=True)
    assert any(not torch.equal(weight, weights[f"model.{name}"]) for name, weight in before.lm.trainable().items())


def test_sft_alone(tmp_path: Path) -> None:
    report = load_algorithm("sft")(CONFIG.replace(algo="sft"), tmp_path / "run")
    assert (report["before"], report["updates"]) == (None, 0)
    assert load_policy(tmp_path / "run")[1].learning.algo == "sft"


@pytest.mark.parametrize("changes", [{"demos": 0}, {"demo_epochs": 0}, {"updates": 0}, {"lora_rank": 2}, {"kl": 0.0}], ids=str)
def test_parts_left_out(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = CONFIG.replace(**{"updates": 1, "eval_episodes": 1, **changes})
    report = train(config, tmp_path / "run")
    assert report["updates"] == config.run.updates
    assert (tmp_path / "run" / "learning_curve.png").exists() is bool(config.run.updates)
    load_policy(tmp_path / "run")


# ---------------------------------------------------------------- stopping and going on
@pytest.mark.parametrize(
    ("where", "call"),
    [
        pytest.param("steptool_agents.runs.warm_start.fit", 1, marks=pytest.mark.slow),  # in the warm start
        pytest.param("steptool_agents.runs.evaluation.rollout_tasks", 1, marks=pytest.mark.slow),  # in the evaluation before training
        pytest.param("steptool_agents.algorithms.step_ppo.assign_credit", 1, marks=pytest.mark.slow),  # in the first update
        ("steptool_agents.algorithms.step_ppo.improve", 2),  # in the second one
        ("steptool_agents.runs.run.save_checkpoint", 2),  # after its line in the metrics, before its checkpoint
        pytest.param("steptool_agents.runs.evaluation.rollout_tasks", 2, marks=pytest.mark.slow),  # in the evaluation after training
    ],
)
def test_a_run_goes_on_as_if_nothing_had_happened(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, call: int
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_at(patch, where, call)
        with pytest.raises(Killed):
            train(CONFIG, out)
    assert not (out / "report.json").exists()
    train(CONFIG, out, resume=True)
    same(out, finished[0])


def test_a_process_that_is_killed(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out = tmp_path / "run"
    program = "import json, sys, torch; torch.set_num_threads(1)\nfrom pathlib import Path\nfrom steptool_agents.config import Config\n"
    program += "from steptool_agents.algorithms.step_ppo import train\ntrain(Config.from_dict(json.loads(sys.argv[2])), Path(sys.argv[1]))"
    arguments = [sys.executable, "-c", program, str(out), json.dumps(CONFIG.as_dict())]
    process = subprocess.Popen(arguments, env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=TINY.parent.parent)
    try:
        end = time.monotonic() + 120
        while process.poll() is None and not list_checkpoints(out):
            assert time.monotonic() < end, "no update within two minutes"
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL, "it was faster than the test"
    logged, saved = len(read_metrics(out)), list_checkpoints(out)
    assert logged - 1 <= saved[-1] <= logged  # at most the update in progress is lost
    train(CONFIG, out, resume=True)
    same(out, finished[0])


@pytest.mark.slow
def test_more_updates(tmp_path: Path, finished: tuple[Path, dict[str, Any]]) -> None:
    out = tmp_path / "run"
    train(CONFIG.replace(updates=1), out)
    assert train(CONFIG, out, resume=True)["updates"] == 3
    same(out, finished[0])
    assert read_config(out).run.updates == 3  # so that a further --resume does not stop at 1


# ---------------------------------------------------------------- folders that are in the way or broken
def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def one_update(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of one update, which nobody changes."""
    out = tmp_path_factory.mktemp("one-update") / "half"
    train(CONFIG.replace(updates=1, eval_episodes=1), out)
    return out


@pytest.fixture
def half(one_update: Path, tmp_path: Path) -> Path:
    """Return a copy of a run of one update."""
    return Path(shutil.copytree(one_update, tmp_path / "half"))


def refused(out: Path, message: str, *, resume: bool = True) -> None:
    before = contents(out)
    with pytest.raises(CheckpointError, match=message):
        train(CONFIG, out, resume=resume)
    assert contents(out) == before


def test_a_folder_with_a_run_is_not_overwritten(half: Path) -> None:
    refused(half, "already holds a run.*use --resume", resume=False)


@pytest.mark.parametrize("file", ["tensors.safetensors", "state.json", "manifest.json"])
def test_a_corrupt_checkpoint(half: Path, file: str) -> None:
    (path,) = (half / "checkpoints").glob(f"update-*/{file}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    refused(half, "corrupt")
    with pytest.raises(CheckpointError, match="corrupt"):
        load_policy(half)


def test_a_corrupt_warm_start(half: Path) -> None:
    path = half / "warm_start.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused(half, "warm_start.safetensors is corrupt")
    with pytest.raises(CheckpointError, match="corrupt"):
        load_policy(half, warm_start=True)


def test_a_checkpoint_of_another_run(half: Path, tmp_path: Path) -> None:
    train(CONFIG.replace(updates=1, eval_episodes=1, lr=0.5), tmp_path / "other")
    shutil.rmtree(half / "checkpoints")
    shutil.copytree(tmp_path / "other" / "checkpoints", half / "checkpoints")
    message = r"the checkpoints in .*half are those of another run: learning\.lr was 0\.5 and is 0\.0003 here"
    refused(half, message)
    with pytest.raises(CheckpointError, match=message):
        load_policy(half)


def test_damaged_metrics_are_repaired_on_demand(half: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = half / "metrics.jsonl"
    good = path.read_bytes()
    assert good.count(b"\n") == 1
    for damage in (good + good, good.replace(b'"seconds', b'"sekonds'), b"\xff\n" + good):
        path.write_bytes(damage)
        with pytest.raises((CheckpointError, DataError), match=r"metrics\.jsonl.*steptool train --resume --force"):
            train(CONFIG, half, resume=True)
        assert path.read_bytes() == damage
    make_way(half, resume=True)
    assert path.read_bytes() == good
    path.write_bytes(b"")
    make_way(half, resume=True)
    assert train(CONFIG.replace(updates=2), half, resume=True)["updates"] == 2
    assert "metrics.jsonl lacks 1 of 1 updates, 0 first: the run goes on without them" in caplog.text
    assert [line["update"] for line in read_metrics(half)] == [1]
    path.unlink()
    train(CONFIG.replace(updates=2, eval_episodes=1), half, resume=True)
    assert "metrics.jsonl is missing: the run goes on, and the metrics of its first 2 updates are lost" in caplog.text


def test_weights_of_another_model(half: Path) -> None:
    settings = json.loads((half / "config.json").read_text())
    settings["model"]["lora_rank"] = 2
    (half / "config.json").write_text(json.dumps(settings))
    refused(half, r"config\.json is not what was written")
    (half / ".seals" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"is the warm start of other settings: model\.lora_rank was 0 and is 2 now"):
        train(read_config(half), half, resume=True)
    write_warm_start(half, read_warm_start(half), read_config(half))  # as taken over from another run
    with pytest.raises(CheckpointError, match="are not those of this model"):
        train(read_config(half), half, resume=True)


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "5", "null", '{"some": "thing else"}', '{"format": 2, "run": {"updates": "many"}}', '{"format": 2, "run": {"updates": -1}}', '["lr"]'],
)
def test_a_foreign_config(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    refused(tmp_path, "config.json cannot be read")
    refused(tmp_path, "already holds a run", resume=False)


def test_nothing_to_resume(tmp_path: Path) -> None:
    refused(tmp_path, "holds no run to resume")
    with pytest.raises(CheckpointError, match="holds no run"):
        load_policy(tmp_path)


def test_a_run_without_weights_yet(tmp_path: Path) -> None:
    write_config(tmp_path, CONFIG)
    with pytest.raises(CheckpointError, match="no weights yet"):
        load_policy(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        *({"suite": "wrlds"}, {"shaper": "fnal"}, {"call_format": "hermess"}, {"model.name": "tinny"}),
        *({"suite_options": {"levl": 1}}, {"demo_options": {"dept": [1, 2]}}),
    ],
    ids=str,
)
def test_mistakes_show_before_anything_is_written(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises((UnknownName, InvalidArgument)):
        Run(CONFIG.replace(**changes), tmp_path / "run")
    assert not contents(tmp_path)


def test_an_evaluation_has_the_budgets_of_the_run() -> None:
    limits = evaluated_policy(load_model("tiny"), Config.of(cache_budget=2000, token_budget=500, max_new_tokens=7)).limits
    assert (limits.cache_budget, limits.token_budget, limits.max_new_tokens, limits.temperature) == (2000, 500, 7, 0.0)
