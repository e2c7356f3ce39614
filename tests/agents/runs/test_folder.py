"""The files of a run's folder: what is written comes back, and what is not there or of another model is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lms import language_model

from steptool_agents.config import Config
from steptool_agents.runs.folder import (
    copy_warm_start,
    has_warm_start,
    load_weights,
    make_way,
    open_folder,
    read_config,
    read_warm_loss,
    read_warm_start,
    write_config,
    write_warm_start,
)
from steptool_agents.runs.results import read_report
from steptool_env.errors import CheckpointError


def test_settings_come_back_and_the_last_ones_count(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no run: it has no config\.json"):
        read_config(tmp_path)
    for config in (Config.of(seed=3), Config.of(seed=4, suite_options={"level": 1}, demo_options={"depth": [1, 3]})):
        write_config(tmp_path, config)
        assert read_config(tmp_path) == config
    assert sorted(path.name for path in tmp_path.iterdir()) == [".seals", "config.json"]


def test_settings_are_verified(tmp_path: Path) -> None:
    write_config(tmp_path, Config.of(lr=1e-3))
    path = tmp_path / "config.json"
    good = path.read_bytes()
    for damage in (good.replace(b"0.001", b"0.003"), good[:-1], good + b" ", b""):
        path.write_bytes(damage)
        with pytest.raises(CheckpointError, match=r"config\.json is not what was written: .*put the original back, or begin another run: steptool train"):
            read_config(tmp_path)
    for damage in (b"[" * 100_000, b'{"format": 2, "run": {"seed": 1' + b"0" * 5000 + b"}}", b"\xff"):
        path.write_bytes(damage)
        (tmp_path / ".seals" / "config.json").unlink(missing_ok=True)  # a person says that it is right
        with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
            read_config(tmp_path)
    (tmp_path / ".seals" / "config.json").write_bytes(b"\xff")
    with pytest.raises(CheckpointError, match="is not what was written"):
        read_config(tmp_path)


def test_results_of_others_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("an essay")
    for resume in (False, True):
        if resume:
            write_config(tmp_path, Config())
        with pytest.raises(CheckpointError, match=r"report\.json is not what this run wrote, and would be overwritten: .*--force"):
            open_folder(tmp_path, resume=resume)
        assert not (tmp_path / ".lock").exists()
    assert (tmp_path / "report.json").read_text() == "an essay"
    make_way(tmp_path, resume=True)
    assert not (tmp_path / "report.json").exists()
    open_folder(tmp_path, resume=True).release()
    with pytest.raises(CheckpointError, match=r"report\.json cannot be read: No such file or directory; delete it"):
        read_report(tmp_path)


def test_the_warm_start_comes_back(tmp_path: Path) -> None:
    assert not has_warm_start(tmp_path)
    with pytest.raises(CheckpointError, match="has no weights yet"):
        read_warm_start(tmp_path)
    weights = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(0.5, dtype=torch.bfloat16)}  # a is not contiguous
    write_warm_start(tmp_path, weights, Config(), 0.1 + 0.2)
    assert has_warm_start(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["warm_start.safetensors"]
    found = read_warm_start(tmp_path)
    assert read_warm_loss(tmp_path) == 0.1 + 0.2
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weight) and found[name].dtype == weight.dtype for name, weight in weights.items())


def test_a_warm_start_is_verified(tmp_path: Path) -> None:
    """A flipped bit anywhere in the weights is found, also where the file stays readable."""
    write_warm_start(tmp_path, {"a": torch.arange(600.0), "b": torch.ones(3, dtype=torch.bfloat16)}, Config(), 0.5)
    path = tmp_path / "warm_start.safetensors"
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    for place in (begin, (begin + len(data)) // 2, len(data) - 1, data.index(b"digest"), data.index(b"settings"), data.index(b"loss"), data.index(b"0.5")):
        flipped = bytearray(data)
        flipped[place] ^= 4
        path.write_bytes(flipped)
        with pytest.raises(CheckpointError, match=r"warm_start\.safetensors is corrupt: its weights are not those that were written; delete it"):
            read_warm_start(tmp_path)
    path.write_bytes(data)
    assert len(read_warm_start(tmp_path)["a"]) == 600


def test_a_warm_start_belongs_to_its_settings(tmp_path: Path) -> None:
    write_warm_start(tmp_path, {"a": torch.ones(2)}, Config.of(seed=0, demos=3))
    assert read_warm_start(tmp_path, Config.of(seed=0, demos=3, lr=0.5, updates=7)).keys() == {"a"}, "what comes after it may differ"
    with pytest.raises(CheckpointError, match=r"warm start of other settings: .*demos was 3 and is 4 now, run.seed was 0 and is 7 now"):
        read_warm_start(tmp_path, Config.of(seed=7, demos=4))
    with pytest.raises(CheckpointError, match="warm start of other settings"):
        read_warm_start(tmp_path, Config.of(seed=0, demos=3, suite_options={"depth": (2, 2)}))
    write_warm_start(tmp_path, {"a": torch.ones(2)}, Config.of(suite_options={"depth": (2, 2)}))
    read_warm_start(tmp_path, Config.of(suite_options={"depth": (2, 2)}))
    copy_warm_start(tmp_path, tmp_path / "other", Config.of(seed=7))
    assert read_warm_start(tmp_path / "other", Config.of(seed=7)).keys() == {"a"}, "what was taken over on purpose is no mistake"


def test_a_warm_start_is_taken_from_another_run_once(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    copy_warm_start(one, other, Config())
    assert not other.exists(), "there is nothing to take"
    one.mkdir()
    write_warm_start(one, {"a": torch.ones(2)}, Config())
    copy_warm_start(one, other, Config())
    assert torch.equal(read_warm_start(other)["a"], torch.ones(2))
    assert [path.name for path in other.iterdir()] == ["warm_start.safetensors"]
    write_warm_start(one, {"a": torch.zeros(2)}, Config())
    copy_warm_start(one, other, Config())
    assert torch.equal(read_warm_start(other)["a"], torch.ones(2)), "what a run began with stays"


def test_weights_go_into_their_model_only(tmp_path: Path) -> None:
    lm = language_model(seed=1)
    weights = {name: weight.detach().clone() for name, weight in language_model(seed=2).trainable().items()}
    load_weights(lm, weights, tmp_path)
    assert all(torch.equal(weight, weights[name]) for name, weight in lm.trainable().items())
    bias = "value_head.value.bias"
    with pytest.raises(CheckpointError, match=r"not those of this model: value_head.value.bias has shape \(1, 2\), not \(1,\)"):
        load_weights(lm, {**weights, bias: torch.zeros(1, 2)}, tmp_path)
    del weights[bias]
    with pytest.raises(CheckpointError, match="not those of this model: 2 names differ"):
        load_weights(lm, {**weights, "other": torch.zeros(1)}, tmp_path)
