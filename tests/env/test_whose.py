"""Whose fault an error is decides who pays: the model for its own mistakes, and for nothing else."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import Counting

from steptool_agents.policies.base import OraclePolicy
from steptool_agents.rollouts.evaluate import evaluate
from steptool_agents.show.episodes import line, select
from steptool_env import ERRORS, FINISH, PARTIES, StepToolEnv, Tool, ToolCall, Toolkit, ToolResult, make_suite, tool, whose
from steptool_env.errors import ToolError, ToolFailed, Unavailable
from steptool_env.rewards import Hindsight, StepTool, label
from steptool_env.rewards.repetition import Repetition
from steptool_env.tasks.worlds.levels import LEVELS
from steptool_env.tasks.wrapped import WithTools
from steptool_env.tools import author
from steptool_env.tools.faults import FaultyToolkit
from steptool_env.types import Outcome, Task, Transition
from steptool_env.words import kind_of_error

DESIGN = Path(__file__).parents[2] / "docs" / "tools.md"
TASK = Task("t", "Do it.", ("look", "finish"), 9)


def transition(error: str, content: str = "x", step: int = 0) -> Transition:
    return Transition(TASK, step, ToolCall("look"), ToolResult(content, error), False, False, None)


def test_every_kind_is_somebodys() -> None:
    assert {error: whose(error) for error in ERRORS} == {
        "": "",
        **dict.fromkeys(("malformed", "unknown_tool", "bad_arguments", "rejected", "over_budget"), "model"),
        "transient": "environment",
        "tool_failed": "author",
        "unavailable": "infrastructure",
    }
    assert set(map(whose, ERRORS[1:])) == set(PARTIES)
    table = DESIGN.read_text(encoding="utf-8")
    for error in ERRORS[1:]:
        assert any(f"`{error}`" in row and f"| the {whose(error)}" in row for row in table.splitlines()), f"docs/tools.md does not say whose {error} is"


@pytest.mark.parametrize("error", ERRORS)
def test_shapers_charge_the_model_for_its_own_mistakes_alone(error: str) -> None:
    price = -0.1 if whose(error) == "model" else 0.0
    assert StepTool()([transition(error)])["sc"] == price
    assert Hindsight()([transition(error)])["sc"] == price
    again = label(Repetition(), [[transition(error), transition(error, step=1)]])[0][1]
    assert again == {"repetition": -0.05 if whose(error) in ("", "model") else 0.0}  # to try again is right after a fault


def total(env: StepToolEnv, task: int) -> float:
    """Play the oracle and return its reward."""
    env.reset(options={"task": task})
    reward, ended = 0.0, False
    while not ended:
        _, paid, terminated, truncated, _ = env.step(env.solution()[0])
        reward, ended = reward + paid, terminated or truncated
    assert terminated
    return reward


@settings(max_examples=40)
@given(
    level=st.sampled_from(sorted(LEVELS)),
    faults=st.integers(0, 4),
    kind=st.sampled_from(["transient", "tool_failed"]),
    rate=st.floats(0.0, 0.6),
    seed=st.integers(0, 99),
    task=st.integers(0, 999),
)
def test_the_oracles_return_does_not_depend_on_faults(level: int, faults: int, kind: str, rate: float, seed: int, task: int) -> None:
    suite = make_suite("worlds", level=level, faults=faults)
    shaky = WithTools(suite, lambda task, toolkit: FaultyToolkit(toolkit, rate=rate, error=kind, seed=f"{seed}/{task.id}"))
    assert total(StepToolEnv(shaky, max_steps=500), task) == pytest.approx(1.5)


@given(rate=st.floats(0.0, 1.0), seed=st.integers(0, 99))
def test_a_fault_of_the_infrastructure_takes_nothing_back(rate: float, seed: int) -> None:
    env = StepToolEnv(WithTools(Counting(), lambda task, toolkit: FaultyToolkit(toolkit, rate=rate, error="unavailable", seed=seed)))
    env.reset(seed=seed)
    before = 0.0
    while True:
        _, reward, terminated, truncated, info = env.step(env.solution()[0])
        assert reward >= 0.0
        assert info["masked"] is (info["tool_error"] == "unavailable")
        before += reward
        if terminated or truncated:
            break
    assert before == pytest.approx(1.5) or info["masked"]


def test_reports_and_views_tell_whose_fault_it_was() -> None:
    suite = WithTools(Counting(size=40), lambda task, toolkit: FaultyToolkit(toolkit, rate=0.4, seed=task.id))
    report, trajectories = evaluate(OraclePolicy(), suite, [0, 1, 2])
    assert report.faults["environment"] > 0.0 and report.faults["model"] == 0.0
    assert (report.call_success, report.call_accuracy, report.reward) == (1.0, 1.0, pytest.approx(1.5))
    lines = [line(index, one) for index, one in enumerate(trajectories)]
    assert sum(one["faults"].get("environment", 0) for one in lines) == sum(one["errors"].get("transient", 0) for one in lines) > 0
    assert select(trajectories, error="environment") == select(trajectories, error="transient") != {}
    assert select(trajectories, error="model") == {}
    assert (kind_of_error("transient"), kind_of_error("rejected")) == ("transient (environment)", "rejected")


# ---------------------------------------------------------------- what tools raise
def broken(fault: BaseException) -> Any:
    def function() -> Any:
        raise fault

    return function


RAISED: list[tuple[BaseException, str]] = [
    (ToolError("no such order"), "rejected"),
    (ValueError("odd"), "rejected"),
    (LookupError("gone"), "rejected"),
    (KeyError("o7"), "rejected"),
    (IndexError(3), "rejected"),
    (TimeoutError(), "transient"),
    (Unavailable("down"), "unavailable"),
    (RuntimeError("boom"), "tool_failed"),
    (TypeError("boom"), "tool_failed"),
    (ZeroDivisionError(), "tool_failed"),
    (OSError("disk"), "tool_failed"),
    (SystemExit(3), "tool_failed"),
]


@pytest.mark.parametrize(("fault", "error"), RAISED, ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "")
@pytest.mark.parametrize("timeout", [None, 30.0], ids=["here", "thread"])
def test_what_a_tool_raises_says_whose_fault_it_is(fault: BaseException, error: str, timeout: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(author, "_told", set())
    kit = Toolkit([Tool("f", "", {"type": "object"}, broken(fault), timeout=timeout)])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        results = [kit.execute(ToolCall("f", {})) for _ in range(3)]
    assert [result.error for result in results] == [error] * 3
    assert str(fault) in results[0].content
    assert len(told) == (whose(error) == "author")  # once
    for warning in told:
        assert issubclass(warning.category, ToolFailed)
        assert all(part in str(warning.message) for part in ("tool 'f' failed", type(fault).__name__, __file__, "raise fault"))  # with the traceback


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_the_author_reads_the_lines_of_the_tool_and_none_of_ours(timeout: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(author, "_told", set())

    @tool(timeout=timeout)
    async def weigh() -> str:
        """Weigh."""
        return str(1 / 0)

    with pytest.warns(ToolFailed) as told:
        Toolkit([weigh]).execute(ToolCall("weigh", {}))
    assert [line for line in str(told[0].message).splitlines() if line.lstrip().startswith("File")] == [f'  File "{__file__}", line {told[0].lineno}, in weigh']
    assert told[0].filename == __file__


def test_a_call_is_answered_where_warnings_are_errors(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(author, "_told", set())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Toolkit([Tool("f", "", {"type": "object"}, broken(RuntimeError("boom")))]).execute(ToolCall("f", {})).error == "tool_failed"
    assert "RuntimeError: boom" in caplog.text


@pytest.mark.parametrize("value", [object(), ToolResult("x", "odd")], ids=["object", "kind"])
def test_a_result_that_cannot_be_written_is_told_to_the_author(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(author, "_told", set())
    kit = Toolkit([Tool("f", "", {"type": "object"}, lambda: value), FINISH])
    with pytest.warns(ToolFailed, match="it returned"):
        assert kit.execute(ToolCall("f", {})).error == "tool_failed"
    assert StepTool()([Transition(TASK, 0, ToolCall("f"), kit.execute(ToolCall("f", {})), False, False, Outcome(0.0))])["sc"] == 0.0
