"""Two processes give the gradient of one, and a whole run makes the same weights, with and without model servers; started as a user starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from model_servers import Server
from pays import NORMALIZED, PAYS
from project import HELPERS
from servers import serving

from steptool_agents.algorithms import load_algorithm
from steptool_agents.config import Config
from steptool_agents.models.loading import load_model
from steptool_agents.parallel import processes
from steptool_agents.runs.checkpoint import load_checkpoint
from steptool_agents.runs.trackers import read_metrics

PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
import numpy as np
import torch
from dataclasses import replace
from gradients import CONFIG, gradients
from lms import language_model, passes, sampled
from pays import Judge
from steptool_agents import Config, assign_credit, imitate, load_algorithm
from steptool_agents.algorithms.eto import prefer
from steptool_agents.learning.reread import as_of_now
from steptool_agents.parallel import processes
from steptool_agents.runs.rewards import labeled, training_shaper
from steptool_env.errors import NotSupported

lm = language_model()
data = assign_credit(sampled(lm), 1.0, 0.95)
alone = {{}}
for budget in (1, 10_000):
    alone[budget] = gradients(lm, data, CONFIG.replace(token_budget=budget))
a, b, c = data.trajectories

def imitated():
    still = torch.optim.SGD(lm.trainable().values(), lr=0.0)
    one_at_a_time = passes(lm, CONFIG.replace(token_budget=1))
    return {{"loss": imitate(one_at_a_time, still, [a, b, c])}}, {{name: one.grad.clone() for name, one in lm.trainable().items() if one.grad is not None}}

def preferred():
    still = torch.optim.SGD(lm.trainable().values(), lr=0.0)
    measured = prefer(passes(lm, CONFIG), still, [(a, b), (c, a), (b, c)], CONFIG.learning, np.random.default_rng(0), beta=0.1, imitation=1.0)
    del measured["accuracy"]  # of margins that are 0: the policy is its own reference
    return measured, {{name: one.grad.clone() for name, one in lm.trainable().items() if one.grad is not None}}

now = as_of_now(passes(lm), [a, b, c])
others = [(one, one()) for one in (imitated, preferred)]
processes.start(cpu=True)
assert processes.world() == 2
for one, again in zip(now, as_of_now(passes(lm), [a, b, c]), strict=True):
    assert abs(again.steps[0].generation.value - one.steps[0].generation.value) <= 1e-5 * abs(one.steps[0].generation.value)
for one, (measured, expected) in others:
    again, found = one()
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert float((gradient - found[name]).norm() / gradient.norm().clamp(min=1e-12)) < 1e-5, (one, name)
    for name, value in measured.items():
        assert abs(again[name] - value) <= 1e-5 * max(1.0, abs(value)), (one, name, value, again[name])
for budget, (measured, expected) in alone.items():
    again, found = gradients(lm, data, CONFIG.replace(token_budget=budget))
    for name, one in expected.items():
        worst = float((one - found[name]).norm() / one.norm().clamp(min=1e-12))
        assert worst < 1e-5, (name, worst)
    for name, value in measured.items():
        assert abs(again[name] - value) <= 1e-5 * max(1.0, abs(value)), (name, value, again[name])
assert processes.gather(processes.share(list(range(5)))) == list(range(5))
assert processes.add_numbers({{"a": 1.0, str(processes.rank()): 2.0}}) == {{"a": 2.0, "0": 2.0, "1": 2.0}}
assert processes.tell("main" if processes.is_main() else None) == "main"
asked = []
assert processes.once(lambda: asked.append(1) or processes.rank()) == 0, "what the main process makes"
assert len(asked) == int(processes.is_main()), "and no other"
judge = Judge(1.0 + processes.rank())
assert [set(one.rewards.tolist()) for one in labeled([a, b, c], judge)] == [{{1.0}}] * 3, "what the judge says to the main process"
assert judge.asked == int(processes.is_main())
try:
    training_shaper(Config.of(shaper={normalized!r}))
except NotSupported as fault:
    assert "each of the 2 processes would know its own alone" in str(fault)
else:
    raise AssertionError("statistics of one process's episodes")

settings = {settings!r}
report = load_algorithm("step-ppo")(Config.of(**settings), Path({out!r}, "two"))
Path({out!r}, f"rank{{processes.rank()}}.json").write_text(str(report["after"]["success"]))
load_algorithm("step-ppo")(Config.of(**settings, **{served!r}), Path({out!r}, "served"))
"""

SETTINGS = {"demos": 8, "updates": 2, "episodes": 5, "eval_episodes": 3, "eval_width": 3, "minibatches": 2, "max_steps": 3, "report_to": "none", "shaper": PAYS}


def weights(out: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in load_checkpoint(out)[1].items() if name.startswith("model.")}


@pytest.mark.slow
def test_two_processes_are_as_good_as_one(tmp_path: Path) -> None:
    """The servers sample with the seeds that a process would use itself (``model_servers``), and get their weights from two shards."""
    program = tmp_path / "two.py"
    launch = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    servers = [Server(load_model("tiny")) for _ in range(2)]
    with serving(servers[0]) as a, serving(servers[1]) as b:
        served = {"servers": f"http://{a}/v1,http://{b}/v1", "server_model": "m", "sharded": True}
        program.write_text(PROGRAM.format(here=str(HELPERS), normalized=NORMALIZED, out=str(tmp_path), settings=SETTINGS, served=served), encoding="utf-8")
        done = subprocess.run([sys.executable, "-m", *launch, str(program)], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert all("/v1/completions" in server.asked for server in servers)
    load_algorithm("step-ppo")(Config.of(**SETTINGS), tmp_path / "one")
    expected, lines = weights(tmp_path / "one"), read_metrics(tmp_path / "one")
    norm = torch.stack([one.norm() for one in expected.values()]).norm()
    for name in ("two", "served"):
        found, updates = weights(tmp_path / name), read_metrics(tmp_path / name)
        assert torch.stack([(one - found[key]).norm() for key, one in expected.items()]).norm() < 1e-5 * norm, name
        for key, one in expected.items():
            # The bias of keys changes nothing, so its gradient is rounding, and Adam makes steps of it.
            assert "query_key_value.bias" in key or (one - found[key]).norm() < 1e-4 * one.norm(), (name, key)
        for key in ("success", "reward", "action_tokens", "steps", "masked"):
            assert [line[key] for line in updates] == [line[key] for line in lines], (name, key)
        assert all(line["tokens_per_second"] > 0 for line in updates)
        assert updates[1]["imitation_loss"] == pytest.approx(lines[1]["imitation_loss"], rel=1e-4)
    for line in read_metrics(tmp_path / "served"):
        assert (line["staleness"], line["importance_truncated"]) == (0.0, 0.0)
        assert line["importance"] == pytest.approx(1.0, abs=1e-5) and line["sampling_kl"] < 1e-9
        assert [line[f"servers/{what}"] for what in ("playing", "failed", "moved", "unanswered")] == [2, 0, 0, 0]
    assert len(list((tmp_path / "served" / "handover").iterdir())) == 2
    after = json.loads((tmp_path / "two" / "report.json").read_text())["after"]
    assert after["episodes"] == 3
    assert after["recall"] is not None and after["steps_over_oracle"] is not None, "the oracle is known, however many processes play"
    assert (tmp_path / "rank0.json").read_text() == (tmp_path / "rank1.json").read_text()


def test_one_process_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    processes.start(cpu=True)
    assert (processes.world(), processes.rank(), processes.is_main()) == (1, 0, True)
    assert processes.share([1, 2, 3]) == processes.gather([1, 2, 3]) == [1, 2, 3]
    assert processes.once(lambda: 7) == processes.tell(7) == 7
    assert processes.portable(tensor := torch.ones(2)) is tensor
    assert processes.add_numbers({"a": 1.5}) == {"a": 1.5}
