"""Search: what is asked of the model, in which order, within which budget, and what comes out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from lms import tokenizer
from toy import Counting

from steptool_agents.chat.prompts import make_chat
from steptool_agents.policies.transcripts import Transcripts
from steptool_agents.rollouts.search import SEARCHES, search
from steptool_agents.trajectory import Generation
from steptool_env.errors import InvalidArgument, UnknownName
from steptool_env.types import ToolCall

ADD, WRONG, RIGHT, GIVE_UP = (
    ToolCall("add", {"amount": 3}),
    ToolCall("finish", {"answer": "7"}),
    ToolCall("finish", {"answer": "3"}),
    ToolCall("finish", {"answer": "", "give_up": True}),
)


class Says:
    """Says what it is told to, in order; then the last again."""

    def __init__(self, *calls: ToolCall, values: Sequence[float] = ()) -> None:
        self.calls, self.values = list(calls), list(values)
        self.seen: list[int] = []

    def act(self, observations: Sequence[Any], envs: Sequence[Any]) -> list[Generation]:
        said = []
        for observation in observations:
            self.seen.append(len(observation["messages"]))
            call = self.calls.pop(0) if len(self.calls) > 1 else self.calls[0]
            said.append(Generation(json.dumps(call.name), call, (1, 2), (3,), (-1.0,), self.values.pop(0) if self.values else 0.0))
        return said


class Reads(Says):
    """Reads as a language model does: what has come since its last action, if the episode goes on from there."""

    def __init__(self, *calls: ToolCall) -> None:
        super().__init__(*calls)
        self.prompts = make_chat(tokenizer(), "auto", style="terse")[0]
        self.transcripts = Transcripts(self.prompts, None)
        self.ids: dict[int, list[int]] = {}
        self.read: list[tuple[str, str]] = []
        """What it had before each action, and what a model that has read nothing before would have."""

    def act(self, observations: Sequence[Any], envs: Sequence[Any]) -> list[Generation]:
        said = super().act(observations, envs)
        for observation, env, generation in zip(observations, envs, said, strict=True):
            transcript = self.transcripts.read(id(env), observation)
            ids = self.ids[id(env)] = ([] if transcript.new else self.ids[id(env)]) + transcript.context
            self.read.append((tokenizer().decode(ids), tokenizer().decode(self.prompts.prompt(observation))))
            written = self.prompts.write(generation.action)  # type: ignore[arg-type]
            transcript.record(list(written.ids), ended=written.ended)
            ids += written.ids
        return said

    def submit(self, observation: Any, env: Any) -> None: ...

    def poll(self) -> list[Any]:
        return []

    def leave(self, env: Any) -> None:
        self.transcripts.drop(id(env))


def one(name: str, greedy: Says, sampler: Says, **options: Any) -> Any:
    (found,) = search(name, {True: greedy, False: sampler}, Counting(), [0], **options)
    return found


def actions(found: Any) -> list[Any]:
    return [step.transition.action for step in found.trajectory.steps]


def test_greedy() -> None:
    found = one("greedy", Says(ADD, RIGHT), Says(WRONG))
    assert (actions(found), found.trajectory.success) == ([ADD, RIGHT], 1.0)
    assert (found.calls, found.env_steps, found.tokens) == (2, 2, 6)
    assert SEARCHES["cot"] is SEARCHES["greedy"]


def test_depth_first_stops_at_the_first_answer_right_or_wrong() -> None:
    found = one("dfsdt", Says(WRONG), Says(RIGHT))
    assert (actions(found), found.trajectory.success, found.calls) == ([WRONG], 0.0, 1)


def test_depth_first_goes_back_after_giving_up() -> None:
    # Greedy: add, give up. Back at the node after add the sampler says give up again (the same: asked again), then the answer.
    greedy, sampler = Says(ADD, GIVE_UP), Says(GIVE_UP, RIGHT)
    found = one("dfsdt", greedy, sampler)
    assert (actions(found), found.trajectory.success) == ([ADD, RIGHT], 1.0)
    assert (found.calls, found.env_steps) == (4, 3)
    assert greedy.seen == [1, 3]  # messages in front of each call: the task; the task, a call and its result
    assert sampler.seen == [3, 3]
    assert [step.transition.step for step in found.trajectory.steps] == [0, 1]


def test_after_going_back_both_policies_read_what_has_happened() -> None:
    # Greedy gives up at the root; the sampler adds instead, and what greedy reads next is after that, not after its own action.
    greedy, sampler = Reads(GIVE_UP, RIGHT), Reads(ADD)
    found = one("dfsdt", greedy, sampler)
    assert (actions(found), found.trajectory.success) == ([ADD, RIGHT], 1.0)
    (_, _), (last, anew) = greedy.read
    assert "give_up" not in last
    assert last == anew
    # Deeper, and back to the root: the same for both.
    greedy, sampler = Reads(ADD, GIVE_UP, ToolCall("add", {"amount": 2}), RIGHT), Reads(GIVE_UP, GIVE_UP, GIVE_UP, ToolCall("add", {"amount": 1}))
    assert one("dfsdt", greedy, sampler).trajectory.success == 1.0
    assert all(had == anew for policy in (greedy, sampler) for had, anew in policy.read)
    assert any("amount" in had for had, _ in greedy.read)


def test_depth_first_climbs_to_the_root_and_down_again() -> None:
    # Both children of the second node give up in vain; a second child of the root finds the answer.
    other = ToolCall("add", {"amount": 1})
    greedy, sampler = Says(ADD, GIVE_UP, ToolCall("add", {"amount": 2}), RIGHT), Says(GIVE_UP, GIVE_UP, GIVE_UP, other)
    found = one("dfsdt", greedy, sampler)
    assert actions(found) == [other, ToolCall("add", {"amount": 2}), RIGHT]
    assert found.trajectory.success == 1.0


def test_without_an_answer_the_first_branch_counts() -> None:
    found = one("dfsdt", Says(ADD, GIVE_UP), Says(GIVE_UP))
    assert (actions(found), found.trajectory.success) == ([ADD, GIVE_UP], 0.0)


@pytest.mark.parametrize("name", ["greedy", "dfsdt", "best-of-n"])
@pytest.mark.parametrize("budget", [1, 2, 5])
def test_no_search_takes_more_than_its_budget(name: str, budget: int) -> None:
    found = one(name, Says(ADD), Says(ADD, ToolCall("add", {"amount": 1}), ADD), budget=budget)
    assert found.calls == budget
    assert found.trajectory.success == 0.0


def test_the_best_of_several_by_value() -> None:
    # Attempts: add, wrong answer (value 1); add, right answer (value 2); give up (value 9, but no answer). 5 calls in all.
    greedy = Says(ADD, WRONG, values=[0, 1])
    sampler = Says(ADD, RIGHT, GIVE_UP, values=[0, 2, 9])
    found = one("best-of-n", greedy, sampler, budget=5)
    assert (actions(found), found.calls) == ([ADD, RIGHT], 5)


def test_many_searches_side_by_side_say_what_each_says_alone() -> None:
    class Oracle:
        def act(self, observations: Any, envs: Sequence[Any]) -> list[Generation]:
            return [Generation("", env.solution()[0]) for env in envs]

    for parallel in (1, 3):
        found = search("dfsdt", {True: Oracle(), False: Oracle()}, Counting(), [4, 0, 2, 1], parallel=parallel)
        assert [(each.trajectory.task.id, each.calls, each.trajectory.success) for each in found] == [
            ("count-7", 8, 1.0),
            ("count-3", 4, 1.0),
            ("count-5", 6, 1.0),
            ("count-4", 5, 1.0),
        ]


def test_mistakes() -> None:
    with pytest.raises(UnknownName, match="unknown search 'dfs'"):
        one("dfs", Says(ADD), Says(ADD))
    with pytest.raises(InvalidArgument, match="at least 1, got 0 and 2"):
        one("dfsdt", Says(ADD), Says(ADD), budget=0)
