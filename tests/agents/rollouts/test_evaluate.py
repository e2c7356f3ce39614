"""Evaluation: numbers worked out by hand; every task counts, whatever became of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from episodes import episode
from hypothesis import given
from hypothesis import strategies as st
from toy import Counting

from steptool_agents.policies.base import OraclePolicy
from steptool_agents.rollouts.evaluate import Report, evaluate, held_out, oracle_calls, pass_rates, summarize
from steptool_agents.trajectory import Trajectory
from steptool_env.errors import InvalidArgument
from steptool_env.types import Task, ToolCall


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
    assert report.call_success == 6 / 7  # the fault of the infrastructure says nothing about the model, so 7 of 8 count
    assert report.call_accuracy == 4 / 7  # raised the progress: 1 + 1 + 0 + 1; a finish that solved: 1
    assert report.faults == {"model": 1 / 8, "environment": 0.0, "author": 0.0, "infrastructure": 1 / 8}
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


def test_held_out_tasks_are_spread_over_the_suite() -> None:
    suite = Counting(size=10)
    assert held_out(suite, 1) == [0]
    assert held_out(suite, 4) == [0, 2, 5, 7]  # 0, 2.5, 5, 7.5, cut down
    assert held_out(suite, 10) == list(range(10))
    assert held_out(suite, 12) == list(range(10))


@given(st.integers(1, 300), st.integers(1, 300))
def test_held_out_tasks_are_as_many_as_wanted_and_each_is_played_once(size: int, episodes: int) -> None:
    tasks = held_out(Counting(size=size), episodes)
    assert len(tasks) == len(set(tasks)) == min(size, episodes)
    assert set(tasks) <= set(range(size))


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


def called(*names: str, error: str = "") -> Trajectory:
    task = Task("t", "Do it.", ("look",), 9)
    one = episode(task, *[(error, 0.0, 0.0)] * len(names), solved=1.0)
    return replace(one, steps=tuple(replace(s, transition=s.transition._replace(action=ToolCall(n))) for s, n in zip(one.steps, names, strict=True)))


def test_against_the_oracle_by_hand() -> None:
    # The solution calls a, b, finish: 3 calls. One episode calls a alone and a again: recall 1/2, 3 calls, 1 of them repeated.
    report = summarize([called("a", "a", "finish"), called("b", "c", "c", "a", "finish", error="unknown_tool")], {"t": ("a", "b", "finish")})
    assert report.recall == 0.75  # 1/2 and 2/2
    assert report.steps_over_oracle == pytest.approx((3 / 3 + 5 / 3) / 2)
    assert report.hallucinated == 5 / 8
    assert report.repeated == 1 / 8  # what failed may be tried again
    assert summarize([called("a")]).recall is None


def test_the_oracle_calls_what_it_calls() -> None:
    assert oracle_calls(Counting(), [0]) == {"count-3": ("add", "add", "add", "finish")}
    report, _ = evaluate(OraclePolicy(), Counting(), [4, 1])
    assert (report.recall, report.steps_over_oracle, report.hallucinated) == (1.0, 1.0, 0.0)


def test_pass_rates_of_repeated_plays() -> None:
    task, other = (Task(name, "Do it.", ("look",), 9) for name in ("t", "u"))
    plays = [episode(task, ("", 0, 0), solved=solved) for solved in (1.0, 0.0)] + [episode(other, ("", 0, 0), solved=1.0)] * 2
    assert pass_rates(plays) == {"pass@k": {"1": 0.75, "2": 1.0}, "pass^k": {"1": 0.75, "2": 0.5}}
    with pytest.raises(InvalidArgument, match="same number of times"):
        pass_rates(plays[:3])
