"""Demonstrations as JSON Lines: whole, readable, covering what was asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from toy import Counting

from steptool_agents.rollouts.demonstrations import demonstrations, write_demonstrations
from steptool_env import StepToolEnv, ToolCall
from steptool_env.errors import InvalidArgument
from steptool_env.tasks.worlds import Worlds


def test_a_line_is_a_conversation_that_can_be_played_again(tmp_path: Path) -> None:
    suite = Worlds(level=2)
    seen: list[int] = []
    assert write_demonstrations(demonstrations(suite, 12), tmp_path / "deep" / "demos.jsonl", seen.append) == 12
    assert seen == [*range(1, 13)] and [path.name for path in (tmp_path / "deep").iterdir()] == ["demos.jsonl"]
    env = StepToolEnv(suite)
    for text in (tmp_path / "deep" / "demos.jsonl").read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        first, *messages = line["messages"]
        env.reset(options={"task": line["task_id"]})
        assert first == {"role": "user", "content": env.task.instruction} and json.loads(line["tools"])[0]["type"] == "function"
        assert len(messages) == 2 * line["steps"] and line["mistakes"] == 0 and line["success"] == 1.0 and line["tags"] == dict(env.task.tags)
        for said, answer in zip(messages[::2], messages[1::2], strict=True):
            (call,) = said["tool_calls"]
            observation, *_, info = env.step(ToolCall(call["function"]["name"], call["function"]["arguments"]))
            assert (said["role"], answer["role"], answer["name"]) == ("assistant", "tool", call["function"]["name"])
            assert answer["content"] == observation["messages"][-1].content
        assert info["success"] == 1.0


def test_noise_and_coverage() -> None:
    suite = Worlds(level=2, size=400)
    noisy = [*demonstrations(suite, 60, noise=0.3, seed=1)]
    assert sum(line["mistakes"] for line in noisy) > 20 and all(line["success"] == 1.0 for line in noisy)
    assert [*demonstrations(suite, 60, noise=0.3, seed=1)] == noisy != [*demonstrations(suite, 60, noise=0.3, seed=2)]
    shallow = [line["tags"]["depth"] for line in demonstrations(suite, 100, most_depth=2)]
    assert {*shallow} == {1, 2}
    some = [line["tags"]["depth"] for line in demonstrations(suite, 100, most_depth=2, deeper=0.1)]
    assert 0 < sum(depth > 2 for depth in some) < 30
    assert len([*demonstrations(suite[:5], 100)]) == 5


@pytest.mark.parametrize(("options", "says"), [({"noise": 1.5}, "noise must be a share"), ({"deeper": -1}, "deeper must be"), ({"count": 0}, "at least 1")])
def test_wrong_numbers(options: dict[str, float], says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        next(demonstrations(Counting(), **{"count": 1, **options}))  # type: ignore[arg-type]
