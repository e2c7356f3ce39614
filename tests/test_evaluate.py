"""Evaluation: numbers worked out by hand; every task counts, whatever became of it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import Counting

from steptool_agents.evaluate import Report, bootstrap, evaluate, held_out, summarize
from steptool_agents.policy import OraclePolicy
from steptool_agents.trajectory import Generation, Step, Trajectory
from steptool_env.types import Outcome, Task, ToolCall, ToolResult, Transition


def episode(task: Task, *steps: tuple[str, float, float], solved: float = 0.0, truncated: bool = False) -> Trajectory:
    """Return an episode from (error, progress before, progress after) of each call."""
    made = []
    for t, (error, before, after) in enumerate(steps):
        last = t == len(steps) - 1
        call = ToolCall("finish" if last and not truncated else "look")
        ends = (last and not truncated, last and truncated, Outcome(solved) if last else None)
        made.append(Step(Generation("", call), Transition(task, t, call, ToolResult("", error), *ends, after, before), {"r": 0.25}, error == "unavailable"))
    return Trajectory(tuple(made))


def test_a_report_by_hand() -> None:
    shallow, deep = (Task(f"t{depth}", "Do it.", ("look",), 9, None, {"depth": depth, "family": "f"}) for depth in (1, 3))
    report = summarize(
        [
            episode(shallow, ("", 0.0, 0.5), ("", 0.5, 0.5), solved=1.0),
            episode(deep, ("bad_arguments", 0.0, 0.0), ("", 0.0, 0.5), ("", 0.5, 0.5), solved=0.0),
            episode(deep, ("", 0.0, 0.0), truncated=True),
            episode(deep, ("", 0.0, 0.25), ("unavailable", 0.25, 0.25), truncated=True),
        ]
    )
    assert (report.episodes, report.success) == (4, 0.25)  # 1 of 4: the one with the fault is one of them
    assert report.steps == 2.0  # 2 + 3 + 1 + 2 = 8 calls
    assert report.call_success == 0.75  # 6 of 8 without an error
    assert report.call_accuracy == 0.5  # raised the progress: 1 + 1 + 0 + 1; a finish that solved: 1; so 4 of 8
    assert report.reward == 0.5  # a quarter per call
    assert report.unfinished == 0.25  # one ran out of budget; the other was cut off by a fault
    assert report.masked == 1
    assert report.by_tag == {
        "depth=1": {"episodes": 1, "success": 1.0},
        "depth=3": {"episodes": 3, "success": 0.0},
        "family=f": {"episodes": 4, "success": 0.25},
    }
    assert report.success_low <= 0.25 <= report.success_high
    assert Report(**report.as_dict()) == report


def test_a_finish_in_the_middle_is_no_contribution_by_itself() -> None:
    task = Task("t", "Do it.", ("look",), 9)
    one = episode(task, ("", 0.0, 0.0), ("", 0.0, 0.0), solved=0.5)
    assert summarize([one]).call_accuracy == 0.0  # half solved is not solved
    assert summarize([replace(one, steps=one.steps[:1])]).success == 0.0


@given(st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=1, max_size=40), st.integers(0, 3))
def test_the_interval_holds_the_mean_and_is_the_same_again(values: list[float], seed: int) -> None:
    array = np.array(values)
    low, high = bootstrap(array, resamples=400, seed=seed)
    assert low >= 0.0
    assert low - 1e-9 <= array.mean() <= high + 1e-9
    assert high <= 1.0 + 1e-9
    assert (low, high) == bootstrap(array, resamples=400, seed=seed)


def test_the_width_of_the_interval() -> None:
    # 100 tasks, half of them solved: 1.96·sqrt(0.25 / 100) = 0.098 to either side.
    low, high = bootstrap(np.array([0.0, 1.0] * 50))
    assert low == pytest.approx(0.402, abs=0.02)
    assert high == pytest.approx(0.598, abs=0.02)


def test_held_out_tasks_are_spread_over_the_suite() -> None:
    suite = Counting(size=10)
    assert held_out(suite, 1) == [0]
    assert held_out(suite, 4) == [0, 2, 5, 7]  # 0, 2.5, 5, 7.5, cut down
    assert held_out(suite, 10) == list(range(10))
    assert held_out(suite, 12) == [*range(10), 0, 1]


@given(st.integers(1, 300), st.integers(1, 300))
def test_held_out_tasks_are_as_many_as_wanted_and_repeat_only_when_they_must(size: int, episodes: int) -> None:
    tasks = held_out(Counting(size=size), episodes)
    assert len(tasks) == episodes
    assert set(tasks) <= set(range(size))
    assert len(set(tasks)) == min(size, episodes)
    assert max(tasks.count(task) for task in set(tasks)) == math.ceil(episodes / size)


@pytest.mark.parametrize("width", [1, 3, 50])
def test_an_evaluation(width: int) -> None:
    seen: list[Trajectory] = []
    report, trajectories = evaluate(OraclePolicy(), Counting(), [4, 1], width=width, on_done=seen.append)
    assert [one.task.id for one in trajectories] == ["count-7", "count-4"]
    assert (report.episodes, report.success, report.success_low, report.success_high, len(seen)) == (2, 1.0, 1.0, 1.0, 2)
    assert report.steps == 6.5  # 7 + 1 and 4 + 1


def test_a_budget_of_steps() -> None:
    report, _ = evaluate(OraclePolicy(), Counting(), [0, 1], max_steps=4)
    assert (report.success, report.unfinished) == (0.5, 0.5)  # counting to 3 takes 4 calls, to 4 takes 5
