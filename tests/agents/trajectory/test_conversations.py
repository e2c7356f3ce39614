"""Trajectories as conversations and back, and as a Minari data set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from steptool_agents.interop.minari import to_minari
from steptool_agents.policies.base import OraclePolicy, RandomPolicy
from steptool_agents.rollouts.evaluate import evaluate
from steptool_agents.trajectory import Trajectory
from steptool_agents.trajectory.conversations import read_conversations, to_conversation, write_conversations
from steptool_env import make_suite
from steptool_env.errors import DataError, InvalidArgument


@pytest.fixture(scope="module")
def played() -> list[Trajectory]:
    suite = make_suite("jsonl", split="all")
    return [*evaluate(OraclePolicy(), suite, range(6))[1], *evaluate(RandomPolicy(), suite, range(3))[1]]


def test_conversations_go_out_and_come_back(tmp_path: Path, played: list[Trajectory]) -> None:
    write_conversations(tmp_path / "c.jsonl", played, [{"type": "function", "function": {"name": "find_city"}}])
    back = read_conversations(tmp_path / "c.jsonl")
    for before, after in zip(played, back, strict=True):
        assert [step.transition.action for step in after.steps] == [step.transition.action for step in before.steps]
        assert [step.transition.result.content for step in after.steps] == [step.transition.result.content for step in before.steps]
        assert after.rewards.tolist() == before.rewards.tolist()
        assert (after.success, after.task.instruction, after.terminated) == (before.success, before.task.instruction, before.terminated)
        assert not after.masked.any()


def test_the_form_is_that_of_the_trainers(played: list[Trajectory]) -> None:
    messages = to_conversation(played[0])["messages"]
    assert [one["role"] for one in messages] == ["user", "assistant", "tool", "assistant", "tool"]
    assert messages[1]["tool_calls"][0]["function"]["name"] == "find_city"
    assert messages[2]["tool_call_id"] == messages[1]["tool_calls"][0]["id"]


def test_foreign_conversations(tmp_path: Path) -> None:
    call = {"id": "a", "function": {"name": "f", "arguments": "{}"}}, {"id": "b", "function": {"name": "g", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "tool_calls": list(call)},
        {"role": "tool", "tool_call_id": "b", "content": "from g"},
        {"role": "tool", "tool_call_id": "a", "content": "from f"},
        {"role": "assistant", "content": "The end."},
    ]
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps({"messages": messages}) + "\n", encoding="utf-8")
    (one,) = read_conversations(path)
    assert [step.transition.result.content for step in one.steps] == ["from f", "from g", ""]
    assert one.steps[-1].transition.action.arguments == {"answer": "The end."}  # type: ignore[union-attr]
    assert one.masked.all()  # no reward is known
    records = ({}, {"messages": [messages[3]]}, {"messages": messages, "reward": [1.0]}, {"messages": messages[:2]})
    for broken in ("{", *map(json.dumps, records)):
        path.write_text(broken, encoding="utf-8")
        with pytest.raises(DataError, match="line 1"):
            read_conversations(path)


def test_a_minari_data_set(tmp_path: Path, played: list[Trajectory], monkeypatch: pytest.MonkeyPatch) -> None:
    minari = pytest.importorskip("minari")
    pytest.importorskip("h5py")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    to_minari(played, "steptool/example-v0", description="Episodes of the example.")
    dataset = minari.load_dataset("steptool/example-v0")
    assert dataset.total_episodes == len(played)
    for trajectory, episode in zip(played, dataset.iterate_episodes(), strict=True):
        assert episode.rewards.tolist() == trajectory.rewards.tolist()
        assert bool(episode.terminations[-1]) == trajectory.terminated
        assert json.loads(episode.observations[0]) == [["user", trajectory.task.instruction]]
        assert len(episode.observations) == len(trajectory.steps) + 1
    with pytest.raises(InvalidArgument):
        to_minari([], "steptool/none-v0")
