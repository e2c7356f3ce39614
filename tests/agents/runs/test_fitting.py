"""Solutions that do not fit into a run's budgets: measured, refused if none fits, said if some do not."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

import pytest
from lms import language_model
from rich.console import Console
from toy import Counting

from steptool_agents.config import Config
from steptool_agents.policies.demonstrator import DemonstrationPolicy
from steptool_agents.policies.local import LMPolicy
from steptool_agents.rollouts.collect import rollout
from steptool_agents.runs.fitting import MOST_CALLS, Need, check_budgets, needs
from steptool_agents.runs.run import Run
from steptool_env import SUITES, Episode, StepToolEnv, Task, TaskSuite, Toolkit
from steptool_env.errors import InvalidArgument


class Live(Counting):
    """Its state is elsewhere: a call would act on the world."""

    can_snapshot = False

    def toolkit(self, task: Task) -> Toolkit:
        class Untouched(Toolkit):
            def answer(self, call: Any) -> Any:
                raise AssertionError(f"the call {call} was made")

        made = super().toolkit(task)
        return Untouched(made.values(), made.state)


@functools.cache
def policy() -> LMPolicy:
    return LMPolicy(language_model("tiny"), "hermes", max_new_tokens=12)


def measured(suite: TaskSuite, index: int) -> Need:
    """Return the same from demonstrations, which are played by other code."""
    (played,) = rollout(DemonstrationPolicy(policy()), [StepToolEnv(suite, "final", max_steps=1000)], [index])
    written = [step.generation for step in played.steps]
    length = sum(len(one.prompt_ids) + len(one.token_ids) for one in written) - len(written[-1].token_ids)
    return Need(len(written), suite[index].max_steps, max(len(one.token_ids) for one in written), length)


def said(suite: TaskSuite, context: int = 2048, **settings: Any) -> str:
    """Return what the console shows."""
    text = io.StringIO()
    check_budgets(suite, policy(), Config.of(**settings), context, Console(file=text, width=1000))
    return text.getvalue()


# -------------------------------------------------------------------- what is measured
def test_needs_are_those_of_demonstrations() -> None:
    suite = Counting(3)
    found = needs(suite, range(3), policy())
    assert found == [measured(suite, index) for index in range(3)]
    assert [need.steps for need in found] == [4, 5, 6]
    assert [need.budget for need in needs(suite, [0, 1], policy(), max_steps=7)] == [7, 7]


def test_further_turns_count() -> None:
    assert [need.steps for need in needs(Counting(1, turns=2), [0], policy())] == [6]


def test_a_long_solution_is_counted_to_its_end() -> None:
    (need,) = needs(Counting(MOST_CALLS + 10), [MOST_CALLS + 9], policy())
    assert need.steps == MOST_CALLS + 13


def test_tools_that_act_on_the_world_are_not_called() -> None:
    (live,), (own,) = needs(Live(1), [0], policy()), needs(Counting(1), [0], policy())
    assert live[:3] == own[:3]
    assert 0 < live.context < own.context, "the results are not known"


def test_a_task_without_a_solution_is_left_out() -> None:
    class Lost(Counting):
        def solution(self, task: Task, episode: Episode) -> list[Any]:
            return []

    assert needs(Lost(2), [0, 1], policy()) == []
    assert said(Lost(2), max_new_tokens=1) == ""


# -------------------------------------------------------------------- what is said
def test_nothing_is_said_where_all_fits() -> None:
    longest = max(need.action for need in needs(Counting(4), range(4), policy()))
    assert said(Counting(4), max_new_tokens=longest) == ""


def test_no_call_fits() -> None:
    longest = max(need.action for need in needs(Counting(4), range(4), policy()))
    with pytest.raises(InvalidArgument, match=rf"no solution of 4 .* takes {longest} tokens .* is 2: set max_new_tokens to {longest} or more$"):
        said(Counting(4), max_new_tokens=2)
    assert said(Counting(4), max_new_tokens=longest) == "", "the number that it says is enough"


def test_no_solution_fits_into_the_steps() -> None:
    with pytest.raises(InvalidArgument, match=r"takes 7 calls where 3 are allowed: set max_steps to 7 or more$"):
        said(Counting(4), max_new_tokens=40, max_steps=3)
    with pytest.raises(InvalidArgument, match="takes 7 calls where 2 are allowed"):
        said(Counting(4, max_steps=2), max_new_tokens=40)
    assert said(Counting(4), max_new_tokens=40, max_steps=7) == ""


def test_no_solution_fits_into_the_context() -> None:
    length = max(need.context for need in needs(Counting(4), range(4), policy())) + 40
    with pytest.raises(InvalidArgument, match=rf"takes {length} tokens in all and the model's context has 60: .* with a context of {length} or more"):
        said(Counting(4), 60, max_new_tokens=40)
    assert said(Counting(4), length, max_new_tokens=40) == ""


def test_some_fit() -> None:
    text = said(Counting(4), max_new_tokens=40, max_steps=5)
    assert text == "warning: the solutions of 2 of 4 sampled tasks do not fit: the longest takes 7 calls where 5 are allowed: set max_steps to 7 or more\n"


def test_a_run_is_refused_before_it_writes_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Split(Counting):
        def __init__(self, split: str = "train") -> None:
            super().__init__(3)

    monkeypatch.setitem(SUITES, "split", Split)
    settings = {"suite": "split", "suite_options": {}, "demo_options": {}, "report_to": "none"}
    with pytest.raises(InvalidArgument, match="set max_new_tokens to"):
        Run(Config.of(**settings, max_new_tokens=2), tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()
    with Run(Config.of(**settings, max_new_tokens=40), tmp_path / "run"):
        pass


def test_tools_that_stay_down_say_nothing_about_the_budget(tmp_path: Path) -> None:
    text = io.StringIO()
    failing = {"fault_rate": 0.6, "fault_options": {"lasting": 1.0}, "suite_options": {"level": 1}, "max_new_tokens": 48, "report_to": "none"}
    Run(Config.of(**failing), tmp_path / "run", console=Console(file=text, width=1000))
    assert "do not fit" not in text.getvalue()
