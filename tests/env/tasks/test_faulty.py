"""Tools that fail now and then: the same ones for the same seed, never ``finish``, and exactly copied by snapshots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from toy import Counting

from steptool_agents.policies.base import OraclePolicy
from steptool_agents.rollouts.evaluate import evaluate
from steptool_env import StepToolEnv, TaskSuite, make_suite
from steptool_env.errors import InvalidArgument, MissingExtra
from steptool_env.tasks.wrapped import Faulty, WithTools
from steptool_env.tools.faults import FaultyToolkit
from steptool_env.tools.toolkit import Toolkit
from steptool_env.tools.wrapped import WrappedToolkit
from steptool_env.types import ToolCall
from steptool_env.wrappers.discrete import StepToolDiscreteEnv


def test_no_fault_changes_nothing() -> None:
    assert evaluate(OraclePolicy(), Faulty(Counting(), 0.0), [0, 3]) == evaluate(OraclePolicy(), Counting(), [0, 3])


def test_an_oracle_tries_again() -> None:
    report, trajectories = evaluate(OraclePolicy(), Faulty(Counting(size=40), 0.3), list(range(10)))
    errors = [step.transition.result.error for one in trajectories for step in one.steps if step.transition.action.name != "finish"]  # type: ignore[union-attr]
    assert set(errors) == {"", "transient"}
    assert 0.15 < errors.count("transient") / len(errors) < 0.45
    assert report.faults == {"model": 0.0, "environment": errors.count("transient") / (len(errors) + 10), "author": 0.0, "infrastructure": 0.0}
    assert (report.call_success, report.call_accuracy) == (1.0, 1.0)  # what the environment did says nothing about the oracle
    assert report.reward == 1.5
    _, again = evaluate(OraclePolicy(), Faulty(Counting(size=40), 0.3), list(range(10)), width=2)
    assert again == trajectories
    assert evaluate(OraclePolicy(), Faulty(Counting(size=40), 0.3, seed=1), list(range(10)))[1] != trajectories


def test_when_all_fails_only_finish_works() -> None:
    report, _ = evaluate(OraclePolicy(), Faulty(Counting(max_steps=4), 1.0), [0])
    assert (report.success, report.unfinished, report.faults["environment"]) == (0.0, 1.0, 1.0)
    env = StepToolEnv(Faulty(Counting(), 1.0))
    env.reset(options={"task": 0})
    assert env.step({"name": "finish", "arguments": {"answer": "3"}})[2]


def test_snapshots_hold_the_faults_to_come() -> None:
    env = StepToolEnv(Faulty(Counting(size=40, max_steps=50), 0.5))
    env.reset(options={"task": 20})
    env.step({"name": "add", "arguments": {"amount": 1}})
    there = env.snapshot()

    def future() -> list[str]:
        return [env.step({"name": "add", "arguments": {"amount": 1}})[4]["tool_error"] for _ in range(12)]

    first = future()
    env.restore(there)
    assert future() == first
    assert len(set(first)) == 2


def test_a_rate_out_of_range() -> None:
    with pytest.raises(InvalidArgument, match=r"rate must lie in \[0, 1\], got 1.5"):
        Faulty(Counting(), 1.5)
    with pytest.raises(InvalidArgument, match=r"ascending order, got \(0.5, 0.1\)"):
        Faulty(Counting(), (0.5, 0.1))
    with pytest.raises(InvalidArgument, match=r"lasting must lie in \[0, 1\], got -1"):
        Faulty(Counting(), 0.1, lasting=-1)


def test_each_task_draws_its_own_rate() -> None:
    suite = Faulty(Counting(size=40), (0.0, 0.6), seed=3)
    rates = [suite.toolkit(suite[index]).rate for index in range(40)]
    assert rates == [suite.toolkit(suite[index]).rate for index in range(40)]
    assert min(rates) < 0.15
    assert max(rates) > 0.45
    assert max(rates) <= 0.6
    assert suite.about().endswith("0 to 60 % of calls fail")
    assert Faulty(Counting(), 0.25, lasting=0.5).about().endswith("25 % of calls fail, lasting 0.5")


def test_a_tool_that_went_down_stays_down_and_snapshots_know() -> None:
    env = StepToolEnv(Faulty(Counting(size=40, max_steps=50), 0.3, lasting=1.0))
    env.reset(options={"task": 20})
    before = env.snapshot()

    def errors() -> list[str]:
        return [env.step({"name": "add", "arguments": {"amount": 1 + k}})[4]["tool_error"] for k in range(20)]

    seen = errors()
    first = seen.index("transient")
    assert set(seen[:first]) <= {""}
    assert set(seen[first:]) == {"transient"}, "for the rest of the episode"
    env.restore(before)
    assert errors() == seen


def test_a_stale_answer_is_the_one_before() -> None:
    toolkit = FaultyToolkit(Toolkit([_ticking()], Counter()), stale=0.5, seed=0)
    answers = [int(toolkit.execute(ToolCall("read", {})).content) for _ in range(40)]
    fresh = [answer for index, answer in enumerate(answers) if answer not in answers[:index]]
    assert fresh == list(range(len(fresh))), "what is fresh comes in order"
    stale = [index for index in range(1, 40) if answers[index] == answers[index - 1]]
    assert 8 < len(stale) < 32
    assert len(fresh) + len(stale) == 40, "a stale one is the last fresh one, never an older one"
    again = FaultyToolkit(Toolkit([_ticking()], Counter()), stale=1.0)
    assert {again.execute(ToolCall("read", {})).content for _ in range(5)} == {"0"}


def _ticking() -> Callable[[], int]:
    count = iter(range(100))

    def read() -> int:
        """Read a counter that has gone on."""
        return next(count)

    return read


@pytest.mark.parametrize(("suite", "options"), [("jsonl", {}), ("bfcl", {"category": "base"}), ("bfcl", {"category": "simple"}), ("agentdojo", {})])
def test_every_suite_can_fail(suite: str, options: dict[str, str]) -> None:
    """Graders look at the toolkit that their suite made, whatever stands in front of it."""
    try:
        tasks = make_suite(suite, **options)
    except MissingExtra as fault:
        pytest.skip(str(fault))
    report, _ = evaluate(OraclePolicy(), Faulty(tasks, 0.3), list(range(8)))
    assert report.faults["environment"] > 0.0


def test_an_unknown_tool_is_the_models_mistake() -> None:
    env = StepToolEnv(Faulty(Counting(), 1.0))
    env.reset(options={"task": 0})
    assert env.step({"name": "ad", "arguments": {}})[4]["tool_error"] == "unknown_tool"


def wrapped(suite: TaskSuite) -> WithTools:
    return WithTools(suite, lambda task, toolkit: WrappedToolkit(toolkit))


@pytest.mark.parametrize("turns", [1, 2])
def test_a_suite_with_wrapped_tools_can_do_what_the_suite_can(turns: int) -> None:
    inner = Counting(turns=turns)
    inner.name, inner.has_solution, inner.has_progress, inner.can_snapshot = "mine", False, False, False
    for outer in (wrapped(inner), wrapped(wrapped(inner)), Faulty(inner, 0.1)):
        assert (outer.name, outer.has_solution, outer.has_progress, outer.can_snapshot, outer.has_turns) == ("mine", False, False, False, turns == 2)
    assert (wrapped(Counting()).has_solution, wrapped(Counting()).has_progress, wrapped(Counting()).can_snapshot) == (True, True, True)


def test_wrapping_the_tools_adds_no_actions() -> None:
    # Room for the tools of later turns is kept where there are later turns, and ``worlds`` has none.
    worlds = make_suite("worlds", level=3)
    assert StepToolDiscreteEnv(wrapped(worlds)).action_space == StepToolDiscreteEnv(worlds).action_space


def test_the_user_goes_on_behind_wrapped_tools() -> None:
    env = StepToolEnv(wrapped(Counting(turns=2)))
    env.reset(options={"task": 0})
    for call in env.solution()[:-1]:
        *_, terminated, _, info = env.step(call)
        assert not terminated
    assert env.episode is not None and "And now to 4." in [message.content for message in env.episode.messages]
    *_, terminated, _, info = env.step(env.solution()[0])
    assert (terminated, info["success"]) == (True, 1.0)
