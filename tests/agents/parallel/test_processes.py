"""Two processes give the gradient of one, and a whole run goes through; started as a user starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from project import HELPERS

from steptool_agents.parallel import processes
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
from steptool_agents import Config, assign_credit, imitate, load_algorithm
from steptool_agents.algorithms.eto import prefer
from steptool_agents.algorithms.offline import as_of_now
from steptool_agents.parallel import processes

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
for one, before in zip(as_of_now(passes(lm), [a, b, c]), now):  # other micro-batches, so other rounding
    assert abs(one.steps[0].generation.value - before.steps[0].generation.value) <= 1e-5 * max(1.0, abs(before.steps[0].generation.value))
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

tiny = Config.of(demos=8, updates=2, episodes=6, eval_episodes=6, minibatches=2)
report = load_algorithm("step-ppo")(tiny, Path({out!r}))
digest = sum(float(one.detach().double().abs().sum()) for one in lm.parameters())
Path({out!r}, f"rank{{processes.rank()}}.json").write_text(str(report["after"]["success"]))
"""


def test_two_processes_are_as_good_as_one(tmp_path: Path) -> None:
    program, out = tmp_path / "two.py", tmp_path / "run"
    program.write_text(PROGRAM.format(here=str(HELPERS), out=str(out)), encoding="utf-8")
    launch = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    done = subprocess.run([sys.executable, "-m", *launch, str(program)], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    updates = read_metrics(out)
    assert len(updates) == 2
    assert all(one["tokens_per_second"] > 0 for one in updates)
    after = json.loads((out / "report.json").read_text())["after"]
    assert after["episodes"] == 6
    assert after["recall"] is not None and after["steps_over_oracle"] is not None, "the oracle is known, however many processes play"
    assert (out / "rank0.json").read_text() == (out / "rank1.json").read_text()


def test_one_process_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    processes.start(cpu=True)
    assert (processes.world(), processes.rank(), processes.is_main()) == (1, 0, True)
    assert processes.share([1, 2, 3]) == processes.gather([1, 2, 3]) == [1, 2, 3]
    assert processes.add_numbers({"a": 1.5}) == {"a": 1.5}
