"""The arithmetic of benchmarks/credit_quality.py, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from benchmark_files import load
from lms import trajectory

from steptool_agents import CREDIT, Trajectory
from steptool_env.types import ToolCall

quality = load("credit_quality")


def played(gains: list[float], rewards: list[float], task: str = "a", values: list[float] | None = None) -> Trajectory:
    """Return an episode whose last step is an answer and whose calls change the progress by ``gains``."""
    made = trajectory([((1,), (2,))] * len(rewards), rewards, task=task, values=values)
    steps, before = [], 0.0
    for step, gain in zip(made.steps, [*gains, 0.0], strict=True):
        steps.append(replace(step, transition=step.transition._replace(action=ToolCall("look"), progress_before=before, progress=before + gain)))
        before += gain
    last = replace(steps[-1], transition=steps[-1].transition._replace(action=ToolCall("finish", {"answer": "x"})))
    return replace(made, steps=(*steps[:-1], last))


def test_answers_are_not_graded() -> None:
    assert np.isnan(quality.truth(played([0.5, -0.25], [0.0, 0.0, 1.0]))).tolist() == [False, False, True]
    assert quality.truth(played([0.5, -0.25], [0.0, 0.0, 1.0]))[:2].tolist() == [0.5, -0.25]


def test_grades_by_hand() -> None:
    # Useful calls score 3 and 1, others 2 and 0: three of the four pairs are in order. In the first episode 3 > 2, in the second 1 > 0.
    gains, scores = [np.array([1.0, 0.0, np.nan]), np.array([1.0, -1.0, np.nan])], [np.array([3.0, 2.0, 9.0]), np.array([1.0, 0.0, -9.0])]
    graded = quality.grade(scores, gains, ["a", "b"])
    assert graded["auc"][0] == 0.75
    assert graded["within"][0] == 1.0
    same = quality.grade([np.array([1.0, 1.0, 0.0])] * 2, gains, ["a", "b"])
    assert same["auc"][0] == same["within"][0] == 0.5


def test_a_scheme_that_pays_steps_tells_them_apart_and_one_that_pays_episodes_does_not() -> None:
    episodes = [played([0.5, 0.0], [0.5, 0.0, 1.0]), played([0.0, 0.5], [0.0, 0.5, 0.0])]
    within = {scheme: quality.graded_by(scheme, "step", episodes)["within"][0] for scheme in ("step", "process-grpo", "trajectory", "grpo")}
    assert within["trajectory"] == within["grpo"] == 0.5
    assert within["process-grpo"] == 1.0
    for scheme in CREDIT:
        assert [len(row) for row in quality.advantages(episodes, scheme, "step")] == [3, 3]


def test_the_values_of_another_critic() -> None:
    (made,) = quality.with_values([played([0.5], [0.5, 1.0])], [[0.25, 0.75]])
    assert [step.generation.value for step in made.steps] == [0.25, 0.75]


def test_the_order_of_the_table() -> None:
    page = "\n".join(["| RLOO | 73.1 (66 to 80) / 91.9 |", "| GRPO | 58.3 (51 to 66) / 85.7 |", "| StepTool | 82.3 (77 to 87) / 94.4 |", "| GRPO | +24.0 |"])
    assert quality.order({"rloo": 0.7, "grpo": 0.6, "step": 0.8, "trajectory": 0.9}, page) == (3, pytest.approx(1.0))
    assert quality.order({"rloo": 0.6, "grpo": 0.7, "step": 0.8}, page)[1] == pytest.approx(0.5)


def test_the_picture_can_be_drawn_from_the_page_with_a_color_for_each_scheme() -> None:
    curves, stages = quality.drawn(quality.RESULTS.read_text(encoding="utf-8"))
    assert stages == [0, 5, 15]
    assert set(curves) == {"step", "final"} and all(list(schemes) == list(CREDIT) for schemes in curves.values())
    assert curves["final"]["reference"][-1] == (0.216, 0.170, 0.257)
    assert len(set(quality.COLORS)) == len(quality.COLORS) >= len(CREDIT)
