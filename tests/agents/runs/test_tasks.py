"""The tasks of a run: training and demonstrations fail as the settings say, held-out tasks do not."""

from __future__ import annotations

import pytest

from steptool_agents import Config
from steptool_agents.policies.base import OraclePolicy
from steptool_agents.rollouts.evaluate import evaluate
from steptool_agents.runs.tasks import suite_of
from steptool_env.errors import InvalidArgument
from steptool_env.tasks.wrapped import Faulty


def test_what_fails_where() -> None:
    failing = {"fault_rate": [0.1, 0.4], "demo_fault_rate": 0.5, "fault_options": {"lasting": 0.25}}
    config = Config.of(**failing, seed=7, suite_options={"level": 1}, demo_options={"size": 3})
    train, demonstrations, test = (suite_of(config, part) for part in ("train", "demonstrations", "test"))
    assert isinstance(train, Faulty)
    assert isinstance(demonstrations, Faulty)
    assert (train.low, train.high, train.seed, train.options) == (0.1, 0.4, 7, {"lasting": 0.25})
    assert (demonstrations.low, demonstrations.high, len(demonstrations)) == (0.5, 0.5, 3)
    assert not isinstance(test, Faulty)
    assert test[0].id.split("-")[2] == "test"
    assert train[0].id.split("-")[2] == "train"
    assert not isinstance(suite_of(config, "train", failing=False), Faulty)
    assert not any(isinstance(suite_of(Config(), part), Faulty) for part in ("train", "demonstrations", "test"))


def test_a_demonstration_shows_that_to_try_again_helps() -> None:
    config = Config.of(demo_fault_rate=0.5, suite_options={"level": 1}, demo_options={}, max_steps=30)
    _, played = evaluate(OraclePolicy(), suite_of(config, "demonstrations"), list(range(5)), max_steps=30)
    assert all(trajectory.success for trajectory in played)
    retried = [
        now.transition.action == before.transition.action
        for trajectory in played
        for before, now in zip(trajectory.steps, trajectory.steps[1:], strict=False)
        if before.transition.result.error == "transient"
    ]
    assert len(retried) > 3
    assert all(retried)


@pytest.mark.parametrize("rate", [1.5, [0.1], [0.1, 0.2, 0.3], [0.1, 2.0], "half"])
def test_mistakes(rate: object) -> None:
    with pytest.raises(InvalidArgument, match="fault_rate"):
        Config.of(fault_rate=rate)
