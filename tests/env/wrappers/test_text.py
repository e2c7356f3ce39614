from __future__ import annotations

import json
import pickle
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import data_equivalence
from hypothesis import given
from hypothesis import strategies as st
from toy import Counting

from steptool_env import FORMATS, Task, Tool, ToolCall, Toolkit, make_format
from steptool_env.errors import InvalidArgument, NotSupported, ResetNeeded, UnknownName
from steptool_env.rewards import Format
from steptool_env.wrappers import StepToolTextEnv

ADD = ToolCall("add", {"amount": 1})


def make(**options: Any) -> StepToolTextEnv:
    env = gym.make("StepToolText-v0", **{"suite": Counting(), **options}).unwrapped
    assert isinstance(env, StepToolTextEnv)
    return env


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_process_as_the_core(name: str) -> None:
    text, core = make(call_format=name), gym.make("StepTool-v0", suite=Counting()).unwrapped
    form = make_format(name)
    assert data_equivalence(text.reset(seed=2)[0], core.reset(seed=2)[0])
    for call in core.solution():  # type: ignore[attr-defined]
        observation, reward, terminated, truncated, info = text.step("I go on.\n" + form.render(call))
        expected = core.step(call.as_dict())
        assert data_equivalence((observation, reward, terminated, truncated), expected[:4])
        assert {key: info[key] for key in expected[4]} == expected[4]
        assert info["reasoning"] == "I go on."
    assert terminated
    assert info["success"] == 1.0


def test_people_are_shown_the_note_about_further_calls(capsys: pytest.CaptureFixture[str]) -> None:
    env = make(render_mode="human")
    env.reset(options={"task": 0})
    assert capsys.readouterr().out == "     user: Count to 3.\n"
    call = env.call_format.render(ADD)
    env.step(call + call)
    out = capsys.readouterr().out
    assert out.count("The counter shows 1.") == 1
    assert "another call in it had no effect" in out
    assert "reward: +0.167" in out


@pytest.mark.parametrize("name", FORMATS)
def test_of_several_calls_the_first_is_executed_and_the_result_says_so(name: str) -> None:
    env = make(call_format=name)
    env.reset(options={"task": 0})
    call = env.call_format.render(ADD)
    observation, *_, info = env.step("\n".join([call] * 3))
    assert env.episode is not None
    assert env.episode.toolkit.state.value == 1
    assert info["further_calls"] == 2
    assert observation["messages"][-1].content.startswith("The counter shows 1.\n[Only the first call")
    assert "2 further calls" in observation["messages"][-1].content
    observation, *_, info = env.step(call)
    assert info["further_calls"] == 0
    assert observation["messages"][-1].content == "The counter shows 2."


def test_repairs_are_told_charged_and_refused() -> None:
    text = f'<tool_call>{{"name": "add", "arguments": {json.dumps(dict(ADD.arguments))},}}</tool_call>'
    env = make(shaper=Format(0.5, repair=0.25))
    env.reset(options={"task": 0})
    _, reward, *_, info = env.step(text)
    assert (reward, info["repaired"], info["tool_error"]) == (-0.25, ("trailing comma",), "")
    _, reward, *_, info = env.step(env.call_format.render(ADD))
    assert (reward, info["repaired"]) == (0.0, ())
    strict = make(strict=True)
    strict.reset(options={"task": 0})
    observation, *_, info = strict.step(text)
    assert (info["tool_error"], info["repaired"]) == ("malformed", ("trailing comma",))
    assert "trailing comma" in observation["messages"][-1].content
    assert strict.fork().strict


def test_a_name_that_the_form_cannot_write_is_said_at_reset() -> None:
    add_up = Tool("add up", "", {"type": "object"}, lambda: "0")

    class Spaced(Counting):
        def toolkit(self, task: Task) -> Toolkit:
            return Toolkit([add_up, *self.tools], super().toolkit(task).state)

    with pytest.raises(InvalidArgument, match="'kimi' cannot write the tool 'add up'"):
        make(suite=Spaced(), call_format="kimi").reset(seed=0)
    make(suite=Spaced(), call_format="hermes").reset(seed=0)


@pytest.mark.parametrize("action", ["", "The answer is 3.", None, 7, b"x", ["a"], "\ud800", "x" * 1_000_000], ids=lambda value: str(type(value).__name__))
def test_what_is_no_call_is_answered(action: Any) -> None:
    env = make()
    env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(action)
    assert (terminated, truncated) == (False, False)
    assert reward < 0
    assert info["tool_error"] == "malformed"
    assert "expected" in observation["messages"][-1].content
    assert env.step(env.call_format.render(ADD))[4]["tool_error"] == ""


@pytest.mark.parametrize("name", FORMATS)
@given(text=st.text(st.characters(), max_size=100))
def test_no_text_raises(name: str, text: str) -> None:
    env = StepToolTextEnv(Counting(), call_format=name)
    env.reset(seed=0)
    observation, *_, info = env.step(text)
    assert env.observation_space.contains(observation)
    assert info["tool_error"] == "" or observation["messages"][-1].content.startswith("Error: ")


@pytest.mark.parametrize("name", FORMATS)
def test_samples_are_valid_calls_and_seeded(name: str) -> None:
    env = make(call_format=name)
    env.reset(seed=0)
    env.action_space.seed(3)
    first = [env.action_space.sample() for _ in range(20)]
    env.action_space.seed(3)
    assert [env.action_space.sample() for _ in range(20)] == first
    for text in first:
        call = env.call_format.parse(text)
        assert isinstance(call, ToolCall)
        assert env.core.action_space.contains(call)
        assert env.episode is not None
        assert not env.episode.toolkit[call.name].check(call.arguments)


def test_a_name_is_never_matched_by_its_end() -> None:
    env = make(call_format="pythonic")
    env.reset(seed=0)
    for text in ("[my.add(amount=1)]", "[Add(amount=1)]", "[myadd(amount=1)]"):
        assert env.step(text)[4]["tool_error"] == "unknown_tool"


def test_instructions_show_the_tools_on_offer() -> None:
    env = make(call_format="react")
    with pytest.raises(ResetNeeded):
        env.instructions()
    env.reset(seed=0)
    assert "add(amount: integer)" in env.instructions()


def test_copies_go_on_the_same() -> None:
    env = make()
    env.action_space.seed(1)
    env.reset(seed=1)
    env.step(env.action_space.sample())
    saved = env.snapshot()
    twin = env.fork()
    expected = [env.step(env.action_space.sample()) for _ in range(3)]
    assert data_equivalence([twin.step(twin.action_space.sample()) for _ in range(3)], expected)
    env.restore(pickle.loads(pickle.dumps(saved)))
    assert data_equivalence([env.step(env.action_space.sample()) for _ in range(3)], expected)


def test_a_snapshot_of_another_form_is_refused() -> None:
    core: Any = gym.make("StepTool-v0", suite=Counting()).unwrapped
    core.reset(seed=0)
    env = make()
    env.reset(seed=0)
    with pytest.raises(InvalidArgument, match="of its own form"):
        env.restore(core.snapshot())


def test_a_suite_that_cannot_be_copied_says_so_by_its_flag() -> None:
    class Bare(Counting):
        can_snapshot = False

    env = make(suite=Bare())
    env.reset(seed=0)
    assert env.suite.can_snapshot is False
    with pytest.raises(NotSupported, match="can_snapshot"):
        env.snapshot()


def test_wrong_arguments_raise() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'hermes'"):
        StepToolTextEnv(call_format="hermas")
    with pytest.raises(ResetNeeded):
        make().step("x")
