"""What counts as a contribution in hindsight, by hand and on whole suites."""

from __future__ import annotations

import json

import pytest

from steptool_env import Outcome, StepToolEnv, Task, ToolCall, ToolResult, Transition, make_suite
from steptool_env.rewards import Hindsight, label, used_later

TASK = Task("t", "What is the phone of the buyer of order O17?", ("get", "finish"), 9)


def episode(*steps: tuple[dict[str, object], object], answer: str | None = "5512", task: Task = TASK) -> list[Transition]:
    """Steps are (arguments, result); a result that is an exception is an error."""
    found = []
    for t, (arguments, result) in enumerate(steps):
        error = "rejected" if isinstance(result, Exception) else ""
        content = result if isinstance(result, str) else str(result) if error else json.dumps(result)
        found.append(Transition(task, t, ToolCall("get", arguments), ToolResult(content, error), False, False, None))
    if answer is not None:
        found.append(Transition(task, len(found), ToolCall("finish", {"answer": answer}), ToolResult("ok"), True, False, Outcome(1.0)))
    return found


ORDER, BUYER = ({"id": "O17"}, {"buyer": "C42", "total": 77}), ({"id": "C42"}, {"name": "Ada", "phone": "5512"})


@pytest.mark.parametrize(
    ("steps", "used"),
    [
        (episode(ORDER, BUYER), [True, True, False]),
        # the same call again returns nothing new; what is used counts for the first
        (episode(ORDER, ORDER, BUYER, BUYER), [True, False, True, False, False]),
        # a detour whose result nobody uses
        (episode(ORDER, ({"id": "P30"}, {"price": 900}), BUYER), [True, False, True, False]),
        # a chain that leads nowhere: its first call was used by its second, that by nothing
        (episode(({"id": "P30"}, {"store": "S11"}), ({"id": "S11"}, {"name": "Ida"}), ORDER, BUYER), [False, False, True, True, False]),
        # a failed call returns nothing and uses nothing
        (episode(ORDER, ({"id": "C42"}, ValueError("C99 is missing")), BUYER), [True, False, True, False]),
        # what stands in the instruction, or was said by the agent before, is no discovery
        (episode(({"id": "x"}, {"order": "O17"}), answer="O17"), [False, False]),
        (episode(({"id": "C42"}, {"id": "C42"}), answer="C42"), [False, False]),
        # numbers, capitals, answers in a sentence, values with spaces
        (episode(({"id": "O17"}, {"total": 1234.5}), answer="It is 1234.5, I think."), [True, False]),
        (episode(({"id": "O17"}, {"name": "Ada Maria"}), answer="That is ADA MARIA."), [True, False]),
        (episode(({"id": "O17"}, {"code": "55"}), answer="It is 5512"), [False, False]),
        # nested results, and text that is no JSON
        (episode(({"id": "O17"}, [{"deep": [{"phone": "5512"}]}])), [True, False]),
        (episode(({"id": "O17"}, "The number on file is 5512.")), [True, False]),
        # true, false, null and single characters are everywhere and prove nothing
        (episode(({"id": "O17"}, {"open": True, "x": None, "n": 7}), answer="true, None, 7"), [False, False]),
        # no answer: nothing leads to it
        (episode(ORDER, BUYER, answer=None), [False, False]),
        ([], []),
    ],
)
def test_used_later_by_hand(steps: list[Transition], used: list[bool]) -> None:
    assert used_later(steps, through=True) == used


def test_any_later_use_counts_if_chains_need_not_end_in_the_answer() -> None:
    chain = episode(({"id": "P30"}, {"store": "S11"}), ({"id": "S11"}, {"name": "Ida"}), ORDER, BUYER)
    assert used_later(chain) == [True, False, True, True, False]
    assert used_later(episode(ORDER, BUYER, answer=None)) == [True, False]


def test_the_reward_by_hand() -> None:
    # 3 calls, 2 of use: ½·⅓ each; the failed one −0.1; the verdict at the end
    ((first, failed, second, last),) = label(Hindsight(alpha=0.1, beta=0.5), [episode(ORDER, ({"id": "C43"}, ValueError("no")), BUYER)])
    assert first == second == {"sc": 0.0, "con": pytest.approx(0.5 / 3), "solved": 0.0}
    assert failed == {"sc": -0.1, "con": 0.0, "solved": 0.0}
    assert last == {"sc": 0.0, "con": 0.0, "solved": 1.0}


def test_the_contributions_of_an_episode_are_bounded_whatever_its_length() -> None:
    for padding in (0, 1, 5, 50):
        (steps,) = label(Hindsight(beta=0.5), [episode(ORDER, *[ORDER] * padding, BUYER)])
        total = sum(one["con"] for one in steps if one is not None)
        assert total == pytest.approx(0.5 * 2 / (2 + padding))


@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
def test_every_call_of_the_oracle_contributes(level: int) -> None:
    env = StepToolEnv(make_suite("worlds", level=level, families=("lookup", "change"), faults=0))  # what is compared or added up is never said
    for task in range(40):
        env.reset(options={"task": task})
        for call in env.solution():
            env.step(call)
        assert env.episode is not None
        used = used_later(list(env.episode), through=True)
        assert used_later(list(env.episode)) == used
        exact = [one.progress > one.progress_before for one in env.episode]
        assert used == exact
