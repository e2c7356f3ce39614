"""The arithmetic of benchmarks/group_scale.py, by hand, and what it plays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmark_files import load
from lms import trajectory

from steptool_agents import Config, Trajectory, load_algorithm
from steptool_env import Outcome

group_scale = load("group_scale")


def ended(task: str, success: float, reward: float) -> Trajectory:
    made = trajectory([([1], [2])], [reward], task=task)
    (step,) = made.steps
    return Trajectory((replace(step, transition=step.transition._replace(outcome=Outcome(success))),))


PLAYED = [ended("a", 1.0, 1.0), ended("a", 1.0, 1.1), ended("b", 1.0, 1.0), ended("b", 0.0, 0.0)]


def test_groups_that_end_the_same() -> None:
    assert group_scale.settled(PLAYED, 2).tolist() == [True, True, False, False]
    assert group_scale.settled(PLAYED, 4).tolist() == [False] * 4


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("rloo", 0.2 / 2.2),  # A = -0.1, 0.1 and 1, -1
        ("grpo", 0.5),  # A = -1, 1 and 1, -1
        ("gigpo-std", 0.5),  # the same twice: all are in the first state of their task
    ],
)
def test_shares_by_hand(scheme: str, expected: float) -> None:
    assert group_scale.share(PLAYED, scheme, group_scale.settled(PLAYED, 2)) == pytest.approx(expected)


def test_share_of_nothing() -> None:
    assert group_scale.share([PLAYED[0]] * 2, "grpo", np.array([True, True])) == 0.0


@pytest.mark.slow
def test_tasks_are_played_in_groups(tmp_path: Path) -> None:
    load_algorithm("sft")(Config.of(algo="sft", suite_options={"level": 1}, demos=8, demo_epochs=1, eval_episodes=2), tmp_path)
    played = group_scale.play(tmp_path, 2, 8, 0)
    assert [one.task for one in played[::2]] == [one.task for one in played[1::2]]
    assert len({one.task.id for one in played}) == 4
