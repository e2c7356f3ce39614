"""Checkpoints: what goes in comes out, whatever kills the process, and nothing corrupt or foreign gets in."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from steptool_agents.runs.checkpoint import (
    claim_run,
    files,
    flatten_optimizer,
    list_checkpoints,
    load_checkpoint,
    prefixed,
    restore_optimizer,
    rng_state,
    save_checkpoint,
    set_rng_state,
    unprefixed,
)
from steptool_env.errors import CheckpointError, InvalidArgument

STATE = {"version": 3, "lr": 1e-4, "best": None, "names": ["Zoë", "🙂"], "nested": {"big": 2**200, "done": True}}


def save(run: Path, update: int, keep: int = 2) -> Path:
    return save_checkpoint(run, update, tensors={"w": torch.full((3,), float(update))}, state={"update": update}, keep=keep)


def folder(run: Path, update: int) -> Path:
    return run / "checkpoints" / f"update-{update:08d}"


def everything(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


# ---------------------------------------------------------------- round trip
def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    tensors = {
        "float": torch.randn(2, 3),
        "bfloat16": torch.randn(5).bfloat16(),
        "int": torch.arange(4),
        "bytes": torch.arange(9, dtype=torch.uint8),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "odd": torch.tensor([float("nan"), float("inf"), -0.0]),
        "transposed": torch.randn(2, 3).T,
        "parameter": nn.Parameter(torch.ones(2)),
    }
    path = save_checkpoint(tmp_path, 12, tensors=tensors, state=STATE)
    assert path == folder(tmp_path, 12)
    update, loaded, state = load_checkpoint(tmp_path)
    assert (update, state) == (12, STATE)
    assert set(loaded) == set(tensors)
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        torch.testing.assert_close(loaded[name], tensor.detach(), rtol=0, atol=0, equal_nan=True)


def test_tied_weights_are_stored_once_and_come_back_tied(tmp_path: Path) -> None:
    embedding, head = nn.Embedding(100, 50), nn.Linear(50, 100, bias=False)
    head.weight = embedding.weight
    whole = torch.arange(10.0)
    path = save_checkpoint(tmp_path, 0, tensors={"in": embedding.weight, "out": head.weight, "whole": whole, "half": whole[5:]}, state={})
    assert (path / "tensors.safetensors").stat().st_size < 2 * 100 * 50 * 4
    _, loaded, _ = load_checkpoint(tmp_path)
    assert loaded["in"] is loaded["out"]
    assert torch.equal(loaded["in"], embedding.weight)
    assert torch.equal(loaded["half"], whole[5:])  # a view of a part is a tensor of its own
    loaded["half"].zero_()
    assert torch.equal(loaded["whole"], whole)


def test_prefixes_join_and_part_dicts() -> None:
    model, value = {"a.b": torch.zeros(1)}, {"a.b": torch.ones(1), "c": torch.ones(2)}
    joined = prefixed("model", model) | prefixed("model2", value)
    assert set(joined) == {"model.a.b", "model2.a.b", "model2.c"}
    assert unprefixed("model", joined) == model
    assert unprefixed("model2", joined) == value


# ---------------------------------------------------------------- which ones are kept
def test_the_newest_ones_are_kept(tmp_path: Path) -> None:
    for update in (1, 5, 9, 10, 100):
        save(tmp_path, update, keep=3)
    assert list_checkpoints(tmp_path) == [9, 10, 100]
    assert load_checkpoint(tmp_path)[0] == 100
    assert load_checkpoint(tmp_path, 9)[2] == {"update": 9}


def test_the_same_update_is_replaced(tmp_path: Path) -> None:
    save(tmp_path, 3)
    save_checkpoint(tmp_path, 3, tensors={}, state={"second": True})
    assert load_checkpoint(tmp_path)[2] == {"second": True}
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["update-00000003"]


def test_going_back_takes_a_decision(tmp_path: Path) -> None:
    for update in (1, 2, 3):
        save(tmp_path, update, keep=9)
    before = everything(tmp_path)
    with pytest.raises(CheckpointError, match=r"cannot save update 2: .* holds the later update 3"):
        save(tmp_path, 2)
    assert everything(tmp_path) == before


# ---------------------------------------------------------------- killed in the middle
class Killed(BaseException):
    """Stands for SIGKILL: nothing that catches exceptions catches it."""


@pytest.mark.parametrize("replaces", [False, True], ids=["new", "replaced"])
@pytest.mark.parametrize("moment", range(9))
def test_a_save_that_is_killed_leaves_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int, replaces: bool) -> None:
    """Die before the n-th call that touches the disk's order of things; whatever n, a complete checkpoint is the newest."""
    save(tmp_path, 1)
    if replaces:
        save(tmp_path, 2)
    calls = iter(range(100))

    def deadly(function: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            if next(calls) == moment:
                raise Killed
            return function(*args, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(files.safetensors.torch, "save_file", deadly(files.safetensors.torch.save_file))
        patch.setattr(files.os, "fsync", deadly(os.fsync))
        patch.setattr(files.os, "rename", deadly(os.rename))
        patch.setattr(files.shutil, "rmtree", deadly(files.shutil.rmtree))
        try:
            save_checkpoint(tmp_path, 2, tensors={"w": torch.full((3,), 2.0)}, state={"update": 2})
        except Killed:
            pass
        else:
            assert moment >= 7, "so few steps cannot be a safe save"
    update, tensors, state = load_checkpoint(tmp_path)
    assert update in (1, 2)
    assert state == {"update": update}
    assert tensors["w"].tolist() == [float(update)] * 3
    save(tmp_path, 3)
    assert load_checkpoint(tmp_path)[0] == 3
    assert not [path.name for path in (tmp_path / "checkpoints").iterdir() if path.name.startswith(".")], "leftovers of the killed save are still there"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_process_that_is_really_killed(tmp_path: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
import torch
from steptool_agents.runs.checkpoint import files
run = Path(sys.argv[1])
files.save_checkpoint(run, 1, tensors={"w": torch.ones(3)}, state={"update": 1})
files._flush = lambda path: os.kill(os.getpid(), signal.SIGKILL)
files.save_checkpoint(run, 2, tensors={"w": torch.ones(3)}, state={"update": 2})
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "checkpoints").glob(".new-*"))) == 1
    assert load_checkpoint(tmp_path)[0] == 1
    save(tmp_path, 2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["update-00000001", "update-00000002"]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)
    before = everything(tmp_path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, 2)
    assert everything(tmp_path) == before


# ---------------------------------------------------------------- corrupt and foreign
@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "manifest.json"])
def test_every_flipped_bit_is_found(tmp_path: Path, name: str) -> None:
    save(tmp_path, 1)
    path = save(tmp_path, 2) / name
    good = path.read_bytes()
    for position in range(0, len(good), max(1, len(good) // 40)):
        bad = bytearray(good)
        bad[position] ^= 1 << (position % 8)
        path.write_bytes(bad)
        try:
            same = json.loads(bad) == json.loads(good)  # a flip in white space, which says nothing, may pass
        except ValueError:
            same = False
        if name == "manifest.json" and same:
            continue
        with pytest.raises(CheckpointError, match="Other checkpoints of this run: update 1"):
            load_checkpoint(tmp_path)
    path.write_bytes(good)
    assert load_checkpoint(tmp_path)[0] == 2


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: (path / "tensors.safetensors").unlink(), "is incomplete: tensors.safetensors is missing"),
        (lambda path: (path / "state.json").unlink(), "is incomplete: state.json is missing"),
        (lambda path: (path / "state.json").write_bytes(b""), "state.json is corrupt: it has 0 bytes instead of"),
        (lambda path: (path / "manifest.json").write_bytes(b""), "manifest.json is corrupt"),
        (lambda path: (path / "manifest.json").write_text("[1]"), "is not a checkpoint of this package"),
        (lambda path: (path / "manifest.json").write_text('{"format": "other"}'), "is not a checkpoint of this package"),
        (lambda path: (path / "manifest.json").write_text('{"format": "steptool-checkpoint", "version": 99}'), "has format version 99; this package reads 1"),
        (lambda path: path.rename(path.with_name("update-00000007")), "holds update 2; was it renamed"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage: Any, reason: str) -> None:
    save(tmp_path, 1)
    damage(save(tmp_path, 2))
    before = everything(tmp_path)
    with pytest.raises(CheckpointError, match=reason):
        load_checkpoint(tmp_path)
    assert everything(tmp_path) == before


def test_a_folder_without_manifest_is_no_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (save(tmp_path, 2) / "manifest.json").unlink()
    assert list_checkpoints(tmp_path) == [1]
    assert load_checkpoint(tmp_path)[0] == 1
    before = everything(tmp_path)
    with pytest.raises(CheckpointError, match=r"manifest\.json is missing"):
        load_checkpoint(tmp_path, 2)
    with pytest.raises(CheckpointError, match=r"manifest\.json is missing"):  # it may be anything: not ours to replace
        save(tmp_path, 2)
    assert everything(tmp_path) == before


def test_missing_checkpoints_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no complete checkpoint"):
        load_checkpoint(tmp_path)
    save(tmp_path, 4)
    with pytest.raises(CheckpointError, match="no checkpoint of update 5; complete ones: 4"):
        load_checkpoint(tmp_path, 5)
    (tmp_path / "checkpoints" / "update-best").mkdir()
    (tmp_path / "checkpoints" / "update-best" / "manifest.json").touch()
    assert list_checkpoints(tmp_path) == [4]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"update": -1}, "update must be an integer"),
        ({"update": True}, "update must be an integer"),
        ({"keep": 0}, "keep must be at least 1"),
        ({"state": {"x": float("nan")}}, "state.x is nan"),
        ({"state": {"x": [{1: 2}]}}, r"state.x\[0\] has the key 1"),
        ({"state": {"x": object()}}, "state.x is of type object"),
        ({"tensors": {"x": 3}}, "'x': int"),
        ({"tensors": {"x": torch.zeros(2, device="meta")}}, "dense tensors with data"),
    ],
)
def test_what_cannot_be_stored_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        save_checkpoint(tmp_path, **{"update": 1, "tensors": {}, "state": {}, **options})
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- optimizers and random generators
def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        (model(torch.randn(4, 3)) ** 2).sum().backward()
        optimizer.step()


@pytest.mark.parametrize(
    "make",
    [
        lambda groups: torch.optim.AdamW(groups, lr=0.01, betas=(0.8, 0.9)),
        lambda groups: torch.optim.Adam(groups, lr=torch.tensor(0.01), amsgrad=True),
        lambda groups: torch.optim.SGD(groups, lr=0.01),
        lambda groups: torch.optim.SGD(groups, lr=0.01, momentum=0.9),
        lambda groups: torch.optim.Adafactor(groups, lr=0.01),
    ],
    ids=["adamw", "adam", "sgd", "momentum", "adafactor"],
)
def test_training_goes_on_bit_for_bit(tmp_path: Path, make: Any) -> None:
    def build() -> tuple[nn.Module, torch.optim.Optimizer]:
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
        return model, make([{"params": model[0].parameters(), "weight_decay": 0.1}, {"params": model[1].parameters()}])

    torch.manual_seed(0)
    model, optimizer = build()
    train(model, optimizer, 3)
    moments, rest = flatten_optimizer(optimizer)
    noise, names = rng_state()
    tensors = prefixed("model", model.state_dict()) | prefixed("optimizer", moments) | prefixed("random", noise)
    save_checkpoint(tmp_path, 3, tensors=tensors, state={"optimizer": rest, "random": names})
    train(model, optimizer, 3)

    torch.manual_seed(1)
    again, resumed = build()
    _, tensors, state = load_checkpoint(tmp_path)
    again.load_state_dict(unprefixed("model", tensors))
    restore_optimizer(resumed, unprefixed("optimizer", tensors), state["optimizer"])
    set_rng_state(unprefixed("random", tensors), state["random"])
    kept = {name: tensor.clone() for name, tensor in tensors.items()}
    train(again, resumed, 3)
    for one, two in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)
    assert [group["weight_decay"] for group in resumed.param_groups] == [group["weight_decay"] for group in optimizer.param_groups]
    assert all(torch.equal(tensors[name], kept[name]) for name in kept if not name.startswith("model.")), "training went on in the loaded tensors"


def test_an_optimizer_that_does_not_fit_is_refused() -> None:
    small, large = nn.Linear(2, 2), nn.Linear(3, 2)
    saved = flatten_optimizer(torch.optim.AdamW(small.parameters()))
    with pytest.raises(CheckpointError, match="shapes of the optimizer's parameters differ"):
        restore_optimizer(torch.optim.AdamW(large.parameters()), *saved)
    with pytest.raises(CheckpointError, match="holds the state of 'AdamW', the optimizer is 'SGD'"):
        restore_optimizer(torch.optim.SGD(small.parameters()), *saved)
    groups = [{"params": [nn.Parameter(torch.zeros(2))], "name": name} for name in ("policy", "value_head")]
    saved = flatten_optimizer(torch.optim.AdamW(groups))
    with pytest.raises(CheckpointError, match=r"groups \['policy', 'value_head'\], the optimizer has \['value_head', 'policy'\]"):
        restore_optimizer(torch.optim.AdamW([{"params": group["params"], "name": group["name"]} for group in groups[::-1]]), *saved)


@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64])
def test_every_random_source_goes_on_where_it_was(tmp_path: Path, bits: Any) -> None:
    sources: dict[str, Any] = {"tasks": np.random.Generator(bits(1)), "shuffle": random.Random(2), "sampling": torch.Generator().manual_seed(3)}

    def draw(sources: dict[str, Any]) -> list[Any]:
        numbers = [sources["tasks"].integers(0, 99, 5, dtype=np.int32).tolist(), sources["tasks"].standard_normal(), sources["shuffle"].gauss(0, 1)]
        return [*numbers, torch.rand(3, generator=sources["sampling"]).tolist(), torch.rand(3).tolist()]

    draw(sources)  # gauss() and 32-bit integers leave half of something behind
    tensors, state = rng_state(sources)
    save_checkpoint(tmp_path, 0, tensors=tensors, state=state)
    expected = draw(sources)
    _, tensors, state = load_checkpoint(tmp_path)
    set_rng_state(tensors, state, sources)
    assert draw(sources) == expected
    fresh = {"tasks": np.random.Generator(bits(9)), "shuffle": random.Random(9), "sampling": torch.Generator()}
    set_rng_state(tensors, state, fresh)
    assert draw(fresh) == expected


def test_random_sources_that_do_not_fit_are_refused() -> None:
    tensors, state = rng_state({"a": np.random.default_rng(0)})
    with pytest.raises(CheckpointError, match=r"holds the random states \['a'\], but \['b'\] are to be set"):
        set_rng_state(tensors, state, {"b": np.random.default_rng(0)})
    with pytest.raises(CheckpointError, match="does not fit"):
        set_rng_state(tensors, state, {"a": np.random.Generator(np.random.MT19937(0))})
    with pytest.raises(InvalidArgument, match="random source 'a' must be"):
        rng_state({"a": 3})  # type: ignore[dict-item]


# ---------------------------------------------------------------- runs
def test_claiming_a_run(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "demo"
    with pytest.raises(CheckpointError, match="holds no run to resume"):
        claim_run(out, resume=True)
    assert not out.exists()
    claim_run(out, resume=False)
    assert out.is_dir()
    claim_run(out, resume=False)  # still empty
    (out / "config.json").write_text("{}")
    claim_run(out, resume=True)
    before = everything(tmp_path)
    with pytest.raises(CheckpointError, match="use --resume or another name"):
        claim_run(out, resume=False)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints"])
def test_remains_of_a_run_are_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(CheckpointError, match=f"already holds a run .it has {name}"):
        claim_run(tmp_path, resume=False)


def test_a_file_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for resume in (True, False):
        with pytest.raises(CheckpointError, match="is not a folder"):
            claim_run(tmp_path / "file", resume)


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    def refuse(*_: Any, **__: Any) -> Tensor:
        raise AssertionError("pickle was used")

    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "dump"), (pickle, "dumps"), (torch, "save"), (torch, "load")):
        monkeypatch.setattr(module, name, refuse)
    save(tmp_path, 1)
    assert load_checkpoint(tmp_path)[0] == 1
