"""The order of a run, which no algorithm can change, and what happens between two of its updates."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lms import TINY  # noqa: F401  # sets one thread
from torch import Tensor

from steptool_agents.config import Config
from steptool_agents.learning.optimizer import policy_optimizer
from steptool_agents.runs.checkpoint import list_checkpoints
from steptool_agents.runs.loop import Loop
from steptool_agents.runs.run import Run
from steptool_agents.runs.trackers import read_metrics

CONFIG = Config.of(suite_options={"level": 1}, demos=2, updates=2, episodes=2, eval_episodes=2, eval_width=2, max_steps=3)


def test_an_algorithm_is_what_stands_inside_the_loop(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with Run(CONFIG, out) as run:
        loop = Loop(run, policy_optimizer(run.lm, CONFIG.learning.lr), note="mine {mine} {other}")
        assert loop.at_start and run.state["before"]["episodes"] == 2 and not list_checkpoints(out)
        for number, episodes in enumerate(loop):
            assert len(episodes) == 2
            assert list_checkpoints(out) == list(range(1, number + 1)), "an update is saved when the body is done with it"
            run.passes.measure(episodes, lambda encoded: encoded.by_trajectory(encoded.logprobs()))
            loop.log({"mine": number})
            loop.log({"yours": 5.0})
        assert not loop.at_start
        report = loop.report()
    assert (report["updates"], report["before"] is None) == (2, False)
    lines = read_metrics(out)
    assert [(line["mine"], line["yours"]) for line in lines] == [(0, 5.0), (1, 5.0)]
    played = sum(len(step.generation.prompt_ids) + len(step.generation.token_ids) for one in episodes for step in one.steps)
    assert lines[1]["model_tokens"] - lines[0]["model_tokens"] == 2 * played, "read once to play, once to learn"


def test_a_body_that_fails_saves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(ZeroDivisionError), Run(CONFIG, out) as run:
        for _ in Loop(run, policy_optimizer(run.lm, CONFIG.learning.lr)):
            1 / 0  # noqa: B018
    assert not list_checkpoints(out) and not read_metrics(out)


class Counter:
    """What an algorithm keeps beside the model."""

    def __init__(self) -> None:
        self.count = torch.zeros(1)

    def state_dict(self) -> dict[str, Tensor]:
        return {"count": self.count}

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        self.count = tensors["count"]


def test_what_an_algorithm_keeps_comes_back(tmp_path: Path) -> None:
    for updates, resume in ((1, False), (2, True)):
        config, counter = CONFIG.replace(updates=updates), Counter()
        with Run(config, tmp_path / "run", resume=resume) as run:
            for _ in Loop(run, policy_optimizer(run.lm, config.learning.lr), stateful=counter):
                counter.count += 1
        assert counter.count.item() == updates


def test_episodes_from_elsewhere(tmp_path: Path) -> None:
    with Run(CONFIG, tmp_path / "run") as run:
        suite = run.suite("train")
        given = run.collect(run.environments(suite, 2), [0, 1])
        spent = run.spent["env_steps"]
        for episodes in Loop(run, policy_optimizer(run.lm, CONFIG.learning.lr), source=lambda: given):
            assert episodes is given
        assert run.spent["env_steps"] == spent, "nobody played"
