"""Sharded processes give the gradient of one, hold their share and no more, and a run goes on with any number of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lms import language_model
from project import HELPERS

from steptool_agents.algorithms.step_ppo import train
from steptool_agents.parallel import sharding
from steptool_agents.runs.checkpoint import load_checkpoint
from steptool_agents.runs.policies import load_policy
from steptool_agents.runs.trackers import read_metrics

TINY = {"demos": 8, "updates": 2, "episodes": 6, "eval_episodes": 3, "minibatches": 2}

HEAD = """
import gc, os, signal, sys, threading, time
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, {here!r})
import torch
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor
from gradients import CONFIG, gradients
from lms import language_model, sampled
from steptool_agents import Config, assign_credit, load_algorithm, policy_optimizer
from steptool_agents.models.export import export_model
from steptool_agents.algorithms import algorithm_settings
from steptool_agents.parallel import processes, sharding
from steptool_agents.runs.checkpoint import flatten_optimizer, list_checkpoints, load_checkpoint, restore_optimizer, save_checkpoint
out = Path({out!r})
"""

GRADIENTS = """
def held():
    # Bytes of all tensors that are alive.
    gc.collect()
    tensors = [one for one in gc.get_objects() if issubclass(type(one), torch.Tensor) and not isinstance(one, DTensor)]
    return sum({one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}.values())

def bytes_of(numbers):
    return 4 * sum(numbers)

alone = []
for options in ({}, {"recompute": True}, {"lora_rank": 4, "recompute": "selective"}):
    lm = language_model("tiny", **options)
    for name, one in lm.trainable().items():
        if "lora_B" in name:
            torch.nn.init.normal_(one, std=0.1)
    data = assign_credit(sampled(lm), 1.0, 0.95)
    # At most one sequence in a pass: of three, one process has two, and the other goes along. And all at once.
    alone.append((lm, data, {budget: gradients(lm, data, CONFIG.replace(token_budget=budget)) for budget in (1, 10_000)}))
processes.start(cpu=True)
assert processes.world() == 2

for lm, data, expected in alone:
    before = {name: one.detach().clone() for name, one in lm.trainable().items()}
    apart = {id(one) for one in lm.value_head.parameters()}
    cut = [one.numel() for one in lm.parameters() if id(one) not in apart]
    with_whole = held()
    lm.shard()
    # Half of the weights, but for rows that do not divide; the same after passes.
    saved = with_whole - held()
    assert saved > 0.48 * bytes_of(cut), (saved, bytes_of(cut))
    for budget, (measured, gradient) in expected.items():
        again, found = gradients(lm, data, CONFIG.replace(token_budget=budget))
        assert all(isinstance(one, DTensor) for one in found.values())
        assert sum(one.to_local().numel() for one in found.values()) < 0.52 * sum(one.numel() for one in gradient.values())
        found = sharding.joined(found)
        for name, value in measured.items():
            assert abs(again[name] - value) <= 1e-5 * max(1.0, abs(value)), (name, value, again[name])
        if not processes.is_main():
            continue
        assert found.keys() == gradient.keys()
        norm = torch.stack([one.norm() for one in gradient.values()]).norm()
        assert torch.stack([(one - found[name]).norm() for name, one in gradient.items()]).norm() < 1e-5 * norm
        if budget == 1:
            for name, one in gradient.items():
                assert (one - found[name]).norm() <= 1e-5 * one.norm(), name
    del found
    for one in lm.parameters():
        one.grad = None
    assert abs(with_whole - held() - saved) < 0.02 * bytes_of(cut)
    # The reference policy's turn left everything as it was.
    for name, one in sharding.joined(lm.trainable()).items():
        assert torch.equal(one, before[name]), name
    # What servers get is whole: the adapters, or all weights.
    folder, weights = export_model(lm, out / "exported"), sharding.joined(lm.trainable())
    if processes.is_main():
        (file,) = folder.glob("*.safetensors")
        saved, learned = load_file(file), {name: one for name, one in weights.items() if not name.startswith("value_head")}
        assert len(saved) == len(learned)
        for name, one in learned.items():
            assert torch.equal(saved[name.removeprefix("model.").replace(".default.", ".")], one), name
        del saved, learned, one
    del weights
    # Whole again to play, each in its own time.
    names = [name for name, one in lm.model.named_parameters() if isinstance(one, DTensor)]
    with lm.whole(), torch.inference_mode():
        assert names and not any(isinstance(one, DTensor) for one in lm.parameters())
        for _ in range(3 * processes.rank()):
            lm.hidden(torch.ones(1, 4, dtype=torch.int64))
    assert names == [name for name, one in lm.model.named_parameters() if isinstance(one, DTensor)]

# A checkpoint holds whole tensors, and gives every process its part of them.
lm = alone[0][0]
optimizer = policy_optimizer(lm, 1e-3)
gradients(lm, data := alone[0][1], CONFIG)
optimizer.step()
moments, state = flatten_optimizer(optimizer)
assert sum(one.to_local().numel() for one in moments.values() if isinstance(one, DTensor)) < 0.52 * 2 * sum(cut)
tensors = sharding.joined(moments)
if processes.is_main():
    assert not any(isinstance(one, DTensor) for one in tensors.values())
    save_checkpoint(out / "moments", 1, tensors=tensors, state={})
processes.wait()
fresh = policy_optimizer(lm, 1e-3)
restore_optimizer(fresh, load_checkpoint(out / "moments")[1], state)
for name, one in flatten_optimizer(fresh)[0].items():
    assert type(one) is type(moments[name])
    assert torch.equal(one.to_local() if isinstance(one, DTensor) else one, moments[name].to_local() if isinstance(one, DTensor) else moments[name]), name
"""

RUNS = """
processes.start(cpu=True)
tiny = Config.of(**{tiny!r})
load_algorithm("step-ppo")(tiny, out / "whole")
load_algorithm("step-ppo")(tiny.replace(sharded=True), out / "sharded")
data = out / "whole" / "trajectories.jsonl"
for algo in ("rft", "eto", "archer-lite", "step-ppo-offline"):
    settings = {{**algorithm_settings(algo), **{tiny!r}, "algo": algo, "data": str(data), "updates": 1, "episodes": 8, "group": 4, "sharded": True}}
    settings["algo_options"] = {{"warmup": 0}} if algo == "archer-lite" else {{}}
    load_algorithm(algo)(Config.of(**settings), out / algo)
"""

KILLED = """
def kill():
    while not list_checkpoints(out / "run"):
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)

threading.Thread(target=kill, daemon=True).start()
load_algorithm("step-ppo")(Config.of(**{{**{tiny!r}, "updates": 1000, "sharded": True}}), out / "run")
"""


def two(*program: str) -> subprocess.CompletedProcess[str]:
    """Start a program in two processes, and wait for its end."""
    start = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    return subprocess.run([sys.executable, "-m", *start, *program], capture_output=True, text=True, env=environment, timeout=1200)


def written(tmp_path: Path, program: str, **values: object) -> str:
    file = tmp_path / "two.py"
    file.write_text(HEAD.format(here=str(HELPERS), out=str(tmp_path)) + (program.format(**values) if values else program), encoding="utf-8")
    return str(file)


@pytest.mark.slow
def test_gradients_memory_and_checkpoints(tmp_path: Path) -> None:
    done = two(written(tmp_path, GRADIENTS))
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_a_sharded_run_learns_what_a_whole_one_learns(tmp_path: Path) -> None:
    done = two(written(tmp_path, RUNS, tiny=TINY))
    assert done.returncode == 0, done.stderr[-3000:]
    update, expected, _ = load_checkpoint(tmp_path / "whole")
    again, found, _ = load_checkpoint(tmp_path / "sharded")
    assert update == again == 2
    assert found.keys() == expected.keys()
    for name, one in expected.items():
        assert found[name].shape == one.shape
        if name.startswith("model."):
            # Adam divides by the gradient's size: where that is next to nothing, rounding decides on a step.
            assert (found[name] - one).norm() <= 1e-3 * one.norm(), name
    for algo in ("rft", "eto", "archer-lite", "step-ppo-offline"):
        assert len(read_metrics(tmp_path / algo)) == 1


@pytest.mark.slow
def test_a_killed_run_goes_on_with_another_number_of_processes(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert "SIGKILL" in two(written(tmp_path, KILLED, tiny=TINY)).stderr
    done, tensors, _ = load_checkpoint(out)
    policy, config = load_policy(out)
    assert config.model.sharded
    for name, one in policy.lm.trainable().items():
        assert torch.equal(one, tensors[f"model.{name}"]), name  # whole, and readable without any other process
    train(config.replace(updates=done + 1), out, resume=True)
    finished = two("-m", "steptool_agents", "train", "--out", str(out), "--resume", "--updates", str(done + 2))
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert [int(one["update"]) for one in read_metrics(out)] == list(range(done + 2))


def test_one_process_is_whole() -> None:
    lm = language_model()
    weights = {name: one.detach().clone() for name, one in lm.trainable().items()}
    assert not sharding.is_sharded(lm)
    assert list(lm.in_step([[0], [1]])) == [[0], [1]]
    with lm.whole():
        assert all(torch.equal(one, weights[name]) for name, one in sharding.joined(lm.trainable()).items())
    with pytest.raises(KeyError), lm.swapped({next(iter(weights)): torch.zeros(1), "no such weight": torch.zeros(1)}):
        pass
    assert all(torch.equal(one, weights[name]) for name, one in lm.trainable().items())
