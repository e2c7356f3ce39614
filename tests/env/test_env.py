from __future__ import annotations

import enum
import json
import math
import pickle
import random
import statistics
import time
import types
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from hypothesis import given
from hypothesis import strategies as st
from names import shown
from toy import Counter, Counting, reset_counter

from steptool_env import ERRORS, SHAPERS, Episode, Malformed, Message, Outcome, StepToolEnv, Task, TaskSuite, Tool, ToolCall, Toolkit, whose
from steptool_env.env import as_action
from steptool_env.errors import InvalidArgument, NotSupported, ResetNeeded, StepToolError, UnknownName

Make = Callable[..., StepToolEnv]
OPTIONS: dict[str, dict[str, Any]] = {
    "counting": {"suite": Counting()},
    "two turns": {"suite": Counting(turns=2)},
    "worlds": {"suite": "worlds", "level": 2},
    "worlds 5": {"suite": "worlds", "level": 5, "split": "test", "faults": 0},
}
each_suite = pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
ADD = {"name": "add", "arguments": {"amount": 1}}
FAIL = {"name": "fail", "arguments": {}}


def play(env: StepToolEnv, count: int) -> list[Any]:
    """Play random calls and return everything that came back, resets included."""
    seen: list[Any] = []
    for _ in range(count):
        action = env.action_space.sample()
        seen.append((action, *(result := env.step(action))))
        if result[2] or result[3]:
            seen.append(env.reset())
    return seen


# ---------------------------------------------------------------- the Gymnasium API
@each_suite
def test_gymnasium_checks_pass(make_env: Make, options: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make_env(**options))


@each_suite
@pytest.mark.parametrize("shaper", sorted(set(SHAPERS) - {"paper-judge"}))  # the judge needs an endpoint: tests/test_judge.py
def test_every_step_keeps_the_contract(make_env: Make, options: dict[str, Any], shaper: str) -> None:
    env = make_env(**options, shaper=shaper)
    env.action_space.seed(0)
    observation, info = env.reset(seed=0)
    keys, kinds = None, {key: type(value) for key, value in info.items()}
    for _ in range(60):
        before = observation["messages"]
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert env.observation_space.contains(observation)
        assert [type(value) for value in (reward, terminated, truncated)] == [float, bool, bool]
        assert observation["messages"][: len(before)] == before
        assert [message.role for message in observation["messages"][len(before) :]] in (["assistant", "tool"], ["assistant", "user"])
        parts = info.pop("reward_parts")
        assert sum(parts.values()) == pytest.approx(reward)
        assert all(type(value) is float for value in parts.values())
        keys = keys or list(parts)
        assert list(parts) == keys
        assert {key: type(value) for key, value in info.items()} == kinds
        assert info["tool_error"] in ERRORS
        assert 0 <= info["success"] <= 1
        assert 0 <= info["progress"] <= 1
        if terminated or truncated:
            observation, _ = env.reset()


@each_suite
def test_the_solution_solves(make_env: Make, options: dict[str, Any]) -> None:
    env = make_env(**options)
    env.reset(seed=1)
    for _ in range(20):
        total = 0.0
        for call in env.solution():
            _, reward, terminated, truncated, info = env.step(call)
            total += reward
            assert info["tool_error"] == ""
        assert terminated
        assert not truncated
        assert info["success"] == 1.0
        assert total == pytest.approx(1.0 + 0.5 * info["progress"])
        env.reset()


def test_observation_and_info_of_a_step(make_env: Make) -> None:
    env = make_env(suite=Counting())
    observation, info = env.reset(options={"task": 0})
    assert observation["messages"] == (Message("user", "Count to 3."),)
    assert [tool["function"]["name"] for tool in json.loads(observation["tools"])] == list(env.task.tools)
    assert info == {"task_id": "count-3", "success": 0.0, "progress": 0.0, "tool_error": "", "masked": False}
    observation, reward, terminated, truncated, info = env.step(ADD)
    assert observation["messages"][1:] == (
        Message("assistant", '{"name": "add", "arguments": {"amount": 1}}'),
        Message("tool", "The counter shows 1."),
    )
    assert (terminated, truncated) == (False, False)
    assert reward == pytest.approx(0.5 / 3)
    assert info["progress"] == pytest.approx(1 / 3)


def test_the_spec_goes_to_json_and_back(make_env: Make) -> None:
    env = make_env(suite="worlds", level=2, shaper="final", max_steps=5)
    assert env.spec is not None
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json())).unwrapped
    assert isinstance(again, StepToolEnv)
    assert again.max_steps == 5
    assert data_equivalence(env.reset(seed=5), again.reset(seed=5))


def test_every_argument_has_a_default() -> None:
    env = gym.make("StepTool-v0")
    env.reset(seed=0)
    env.close()
    assert type(StepToolEnv().suite).__name__ == "Worlds"


@pytest.mark.parametrize("options", [{"suite": "worlds", "level": 1}, {"suite": Counting()}], ids=["worlds", "counting"])
@pytest.mark.parametrize(("mode", "further"), [("sync", {}), ("async", {"shared_memory": False})])
def test_vector_environments(options: dict[str, Any], mode: str, further: dict[str, Any]) -> None:
    envs = gym.make_vec("StepTool-v0", num_envs=2, vectorization_mode=mode, vector_kwargs=further, **options)
    try:
        envs.action_space.seed(0)
        seen = set(envs.reset(seed=[3, 4])[1])
        for _ in range(12):
            _, rewards, terminated, truncated, infos = envs.step(envs.action_space.sample())
            assert rewards.shape == terminated.shape == truncated.shape == (2,)
            seen |= set(infos)
        assert {"task_id", "success", "reward_parts", "_reward_parts"} <= seen
        single = gym.make("StepTool-v0", **options)
        expected = [single.reset(seed=seed)[0]["tools"] for seed in (3, 4)]
        assert list(envs.reset(seed=[3, 4])[0]["tools"]) == expected
    finally:
        envs.close()


# ---------------------------------------------------------------- choosing tasks, and chance
def test_a_task_is_chosen_by_index_or_id(make_env: Make) -> None:
    env = make_env(suite=Counting())
    for wanted in (4, np.int64(4), "count-7"):
        assert env.reset(options={"task": wanted})[1]["task_id"] == "count-7"
    env.reset(seed=0, options={"task": None})


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"task": 10}, InvalidArgument, "index from 0 to 9, got 10"),
        ({"task": -1}, InvalidArgument, "got -1"),
        ({"task": 1.5}, InvalidArgument, "got 1.5"),
        ({"task": [1]}, InvalidArgument, r"got \[1\]"),
        ({"task": "count-8x"}, UnknownName, "unknown task id 'count-8x'.*count-3, count-4, .*…"),
        ({"tsk": 1}, UnknownName, "unknown reset option 'tsk'. Did you mean 'task'?"),
    ],
)
def test_a_wrong_choice_raises(make_env: Make, options: dict[str, Any], kind: type[Exception], message: str) -> None:
    env = make_env(suite=Counting())
    with pytest.raises(kind, match=message):
        env.reset(options=options)


@each_suite
def test_seeds_decide_everything_and_nothing_else_does(make_env: Make, options: dict[str, Any]) -> None:
    def episode() -> list[Any]:
        env = make_env(**options)
        env.action_space.seed(7)
        return [env.reset(seed=7), *play(env, 40)]

    random.seed(1)
    np.random.seed(1)
    python, numpy = random.getstate(), np.random.get_state()[1].tolist()
    first = episode()
    assert random.getstate() == python
    assert np.random.get_state()[1].tolist() == numpy
    random.seed(2)
    np.random.seed(2)
    assert data_equivalence(first, episode())


def test_unseeded_resets_draw_different_tasks(make_env: Make) -> None:
    env = make_env(suite=Counting(size=50))
    env.reset(seed=0)
    assert len({env.reset()[1]["task_id"] for _ in range(20)}) > 10


# ---------------------------------------------------------------- the budget and the end
def test_the_budget_truncates_and_the_last_step_is_graded(make_env: Make) -> None:
    env = make_env(suite=Counting(max_steps=3))
    env.reset(options={"task": 0})
    ends = [env.step(ADD)[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]
    assert env.episode is not None
    assert [transition.outcome for transition in env.episode] == [None, None, Outcome(0.0)]
    assert [transition.truncated for transition in env.episode] == [False, False, True]


def test_finishing_with_the_last_step_terminates(make_env: Make) -> None:
    env = make_env(suite=Counting(), max_steps=4)
    env.reset(options={"task": 0})
    assert [env.step(call)[2:4] for call in env.solution()][-1] == (True, False)


def test_max_steps_overrides_the_budget_of_the_task(make_env: Make) -> None:
    for budget in (1, 20):
        env = make_env(suite=Counting(max_steps=3), max_steps=budget)
        env.reset(seed=0)
        assert [env.step(FAIL)[3] for _ in range(budget)] == [False] * (budget - 1) + [True]


def test_a_call_after_the_budget_is_answered_and_changes_nothing(make_env: Make) -> None:
    env = make_env(suite=Counting(max_steps=2))
    env.reset(options={"task": 0})
    env.step(ADD)
    *_, last = env.step(ADD)
    for action in (ADD, {"name": "finish", "arguments": {"answer": "3"}}, None):
        observation, reward, terminated, truncated, info = env.step(action)
        assert (reward, terminated, truncated) == (0.0, False, True)
        assert observation["messages"][-1] == Message("tool", "Error: the budget of 2 steps is used up; no further call is executed.")
        assert len(observation["messages"]) == 6
        assert env.observation_space.contains(observation)
        assert info == last | {"tool_error": "over_budget", "reward_parts": dict.fromkeys(last["reward_parts"], 0.0)}
    assert env.episode is not None
    assert len(env.episode) == 2
    assert env.episode.toolkit.state.value == 2


def test_a_step_after_finish_raises(make_env: Make) -> None:
    env = make_env(suite=Counting())
    env.reset(seed=0)
    env.step({"name": "finish", "arguments": {"answer": "?"}})
    with pytest.raises(ResetNeeded, match="terminated"):
        env.step(ADD)
    env.reset()
    env.step(ADD)


def test_before_the_first_reset_everything_raises(make_env: Make) -> None:
    env = make_env(suite=Counting())
    for call in (lambda: env.step(ADD), lambda: env.task, env.solution, env.snapshot, env.fork):
        with pytest.raises(ResetNeeded, match=r"reset\(\)"):
            call()


def test_a_failed_finish_does_not_end_the_episode(make_env: Make) -> None:
    env = make_env(suite=Counting())
    env.reset(seed=0)
    _, _, terminated, _, info = env.step({"name": "finish", "arguments": {}})
    assert not terminated
    assert info["tool_error"] == "bad_arguments"


def test_a_fault_of_the_infrastructure_is_masked_and_pays_nothing(make_env: Make) -> None:
    env = make_env(suite=Counting(), shaper=lambda episode: {"a": 5.0, "b": -1.0})
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step({"name": "phone", "arguments": {}})
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert info["masked"] is True
    assert info["tool_error"] == "unavailable"
    assert info["reward_parts"] == {"a": 0.0, "b": 0.0}
    observation, *_, info = env.step(ADD)
    assert "unavailable" in observation["messages"][-1].content
    assert info["tool_error"] == "over_budget"


def test_the_user_can_go_on_after_finish(make_env: Make) -> None:
    class Watched(Counting):
        def after_finish(self, task: Task, episode: Episode) -> str | None:
            assert episode[-1].terminated
            return super().after_finish(task, episode)

    env = make_env(suite=Watched(turns=2))
    env.reset(options={"task": 0})
    for call in env.solution()[:-2]:
        env.step(call)
    observation, _, terminated, truncated, info = env.step({"name": "finish", "arguments": {"answer": "3"}})
    assert (terminated, truncated, info["success"]) == (False, False, 0.0)
    assert observation["messages"][-1] == Message("user", "And now to 4.")
    assert env.episode is not None
    assert not env.episode[-1].terminated
    *_, terminated, _, info = env.step({"name": "finish", "arguments": {"answer": "4"}})
    assert terminated
    assert info["success"] == 1.0


def test_a_later_turn_can_offer_further_tools(make_env: Make) -> None:
    class GrowingToolkit(Toolkit):
        def offer(self) -> None:
            fresh = Toolkit([*Counting().tools, reset_counter] if self.state.turn else Counting().tools)
            self._tools, self._schemas = dict(fresh), fresh.schemas

        def restore(self, state: Any) -> None:
            super().restore(state)
            self.offer()

    class Growing(Counting):
        def toolkit(self, task: Task) -> Toolkit:
            return GrowingToolkit(self.tools, Counter())

        def after_finish(self, task: Task, episode: Episode) -> str | None:
            following = super().after_finish(task, episode)
            assert isinstance(episode.toolkit, GrowingToolkit)
            episode.toolkit.offer()
            return following

    env = make_env(suite=Growing(turns=2))
    before, _ = env.reset(options={"task": 0})
    first = env.snapshot()
    call = {"name": "reset_counter", "arguments": {}}
    assert env.step(call)[4]["tool_error"] == "unknown_tool"
    after, *_ = env.step({"name": "finish", "arguments": {"answer": "3"}})
    assert "reset_counter" not in before["tools"]
    assert "reset_counter" in after["tools"]
    for one in (env, env.fork()):
        assert "reset_counter" in {one.action_space.sample()["name"] for _ in range(100)}
        assert one.step(call)[4]["tool_error"] == ""
    env.restore(first)
    assert "reset_counter" not in {env.action_space.sample()["name"] for _ in range(100)}
    assert env.step(call)[4]["tool_error"] == "unknown_tool"


# ---------------------------------------------------------------- what is no call
class Name(str): ...


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


MALFORMED: dict[str, Any] = {
    "none": None,
    "text": '{"name": "add", "arguments": {"amount": 1}}',
    "number": 7,
    "list": ["add", {"amount": 1}],
    "object": object(),
    "rude": Rude(),
    "rude within": {"name": "add", "arguments": {"amount": Rude()}},
    "empty": {},
    "no name": {"arguments": {}},
    "name of bytes": {"name": b"add", "arguments": {}},
    "arguments of text": {"name": "add", "arguments": "{}"},
    "arguments of list": {"name": "add", "arguments": [1]},
    "arguments none": {"name": "add", "arguments": None},
    "number as key": {"name": "add", "arguments": {1: 2}},
    "further keys": {"name": "add", "arguments": {"amount": 1}, "id": 3},
    "no text as key": {"name": "add", "arguments": {"amount": 1}, 3: 3},
    "set": {"name": "add", "arguments": {"amount": {1}}},
    "bytes": {"name": "add", "arguments": {"amount": b"1"}},
    "numpy": {"name": "add", "arguments": {"amount": np.int64(1)}},
    "nan": {"name": "add", "arguments": {"amount": math.nan}},
    "infinite": {"name": "add", "arguments": {"amount": -math.inf}},
    "huge": {"name": "add", "arguments": {"amount": 10**5000}},
    "nested": {"name": "add", "arguments": {"amount": nested(100_000)}},
    "malformed": Malformed("hm", "no call"),
    "malformed surrogate": Malformed("\ud800", "\ud800"),
    "malformed of none": Malformed(None, None),  # type: ignore[arg-type]
    "call of none": ToolCall(None, {}),  # type: ignore[arg-type]
    "call of list": ToolCall([], []),  # type: ignore[arg-type]
    "call without json": ToolCall("add", {"amount": object()}),
}
WRONG: dict[str, tuple[Any, str]] = {
    "unknown": ({"name": "ad", "arguments": {}}, "unknown_tool"),
    "unknown surrogate": ({"name": "\ud800", "arguments": {}}, "unknown_tool"),
    "no name": ({"name": "", "arguments": {}}, "unknown_tool"),
    "missing": ({"name": "add"}, "bad_arguments"),
    "type": ({"name": "add", "arguments": {"amount": "1"}}, "bad_arguments"),
    "surrogate": ({"name": "add", "arguments": {"amount": "\ud800"}}, "bad_arguments"),
    "too much": ({"name": "add", "arguments": {"amount": 1, "\0": None}}, "bad_arguments"),
    "megabytes": ({"name": "add", "arguments": {"amount": "x" * 900_000}}, "bad_arguments"),
    "more megabytes": ({"name": "add", "arguments": {"amount": "x" * 3_000_000}}, "malformed"),
    "fails": (FAIL, "tool_failed"),
}


def check_answer(env: StepToolEnv, action: Any, error: str) -> None:
    observation, _, terminated, truncated, info = env.step(action)
    assert info["tool_error"] == error
    assert (terminated, truncated) == (False, False)
    assert (info["reward_parts"]["sc"] < 0) == (whose(error) == "model")
    answer = observation["messages"][-1]
    assert answer.role == "tool"
    assert answer.content.startswith("Error: ")
    assert len(answer.content) < 2000
    json.dumps(observation["messages"], ensure_ascii=False).encode("utf-8")
    assert env.step(ADD)[4]["tool_error"] == ""  # and the episode goes on


@pytest.mark.parametrize("kind", MALFORMED)
def test_what_is_no_call_is_answered(make_env: Make, kind: str) -> None:
    env = make_env(suite=Counting())
    env.reset(seed=0)
    check_answer(env, MALFORMED[kind], "malformed")
    assert env.episode is not None
    assert isinstance(env.episode[0].action, Malformed)
    assert env.episode.toolkit.state.value == 1


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_calls_are_answered(make_env: Make, kind: str) -> None:
    env = make_env(suite=Counting())
    env.reset(seed=0)
    check_answer(env, *WRONG[kind])


def test_the_answer_says_what_was_expected(make_env: Make) -> None:
    env = make_env(suite=Counting())
    env.reset(seed=0)
    content = env.step({"arguments": {}})[0]["messages"][-1].content
    assert content == 'Error: expected {"name": str, "arguments": {...}}, got a name of type NoneType'


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()), lambda s: st.lists(s) | st.dictionaries(st.text(), s), max_leaves=8
)
NAMES = st.sampled_from(["add", "roll", "fail", "phone", "finish", "x"])


ARGUMENTS = st.dictionaries(st.sampled_from(["amount", "answer", "x"]), JSON)


@given(action=JSON | st.fixed_dictionaries({"name": NAMES, "arguments": JSON}) | st.builds(ToolCall, NAMES, ARGUMENTS))
def test_no_action_raises(action: Any) -> None:
    env = StepToolEnv(Counting())
    env.reset(seed=0)
    observation, reward, *_, info = env.step(action)
    assert env.observation_space.contains(observation)
    assert math.isfinite(reward)
    assert info["tool_error"] in ERRORS
    pickle.dumps(env.snapshot())
    json.dumps(observation["messages"], ensure_ascii=False).encode("utf-8")


@pytest.mark.parametrize(
    "action",
    [
        ADD,
        ToolCall("add", {"amount": 1}),
        ToolCall("add", types.MappingProxyType({"amount": 1})),
        types.MappingProxyType(ADD),
        {"name": Name("add"), "arguments": {"amount": enum.IntEnum("E", {"ONE": 1}).ONE}},
        {"arguments": {"amount": True + 0}, "name": "add"},
    ],
    ids=["dict", "call", "call of a view", "view", "subclasses", "order"],
)
def test_all_ways_to_write_a_call_are_one_action(action: Any) -> None:
    call = as_action(action)
    assert call == ToolCall("add", {"amount": 1})
    assert isinstance(call, ToolCall)
    assert type(call.name) is str
    assert type(call.arguments) is dict
    assert type(call.arguments["amount"]) is int


def test_records_do_not_change_when_arguments_do(make_env: Make) -> None:
    def take(items: list[int]) -> str:
        items.clear()
        return "taken"

    schema = {"type": "object", "properties": {"items": {"type": "array"}}}

    class Taking(Counting):
        def progress(self, task: Task, episode: Episode) -> float:
            return 0.0

    suite = Taking()
    suite.tools = [Tool("take", "", schema, take)]
    env = make_env(suite=suite)
    env.reset(seed=0)
    action: dict[str, Any] = {"name": "take", "arguments": {"items": [1, 2]}}
    observation, *_ = env.step(action)
    assert action["arguments"] == {"items": [1, 2]}  # the tool got its own
    action["arguments"]["items"].append(3)
    assert env.episode is not None
    assert observation["messages"][1].content == '{"name": "take", "arguments": {"items": [1, 2]}}'


# ---------------------------------------------------------------- snapshot, restore, fork
@each_suite
@pytest.mark.parametrize("way", ["restore", "fork", "pickle", "other environment"])
def test_a_copy_goes_on_bit_by_bit_the_same(make_env: Make, options: dict[str, Any], way: str) -> None:
    env = make_env(**options)
    env.action_space.seed(1)
    env.reset(seed=1)
    play(env, 5)
    saved = env.snapshot()
    twin = env
    if way == "fork":
        twin = env.fork()
    elif way != "restore":
        twin = make_env(**options)
    expected = play(env, 40)
    for _ in range(2):
        if way != "fork":
            twin.restore(pickle.loads(pickle.dumps(saved)) if way == "pickle" else saved)
        assert data_equivalence(play(twin, 40), expected)
        if way == "fork":
            break


def test_a_fork_and_its_origin_leave_each_other_alone(make_env: Make) -> None:
    env = make_env(suite=Counting(), max_steps=6, shaper="final", render_mode="ansi")
    env.reset(options={"task": 2})
    env.step(ADD)
    twin = env.fork()
    assert twin.render() == env.render()
    twin.step(ADD)
    env.step({"name": "add", "arguments": {"amount": -1}})
    assert env.episode is not None
    assert twin.episode is not None
    assert (env.episode.toolkit.state.value, twin.episode.toolkit.state.value) == (0, 2)
    assert len(env.solution()) == 6
    assert len(twin.solution()) == 4
    assert (twin.max_steps, twin.shaper, twin.spec) == (env.max_steps, env.shaper, env.spec)


def test_a_snapshot_of_an_ended_episode_is_ended(make_env: Make) -> None:
    env = make_env(suite=Counting(max_steps=1))
    env.reset(seed=0)
    env.step(ADD)
    truncated = env.snapshot()
    env.reset()
    env.step({"name": "finish", "arguments": {"answer": "3"}})
    terminated = env.snapshot()
    env.restore(truncated)
    assert env.step(ADD)[4]["tool_error"] == "over_budget"
    env.restore(terminated)
    with pytest.raises(ResetNeeded):
        env.step(ADD)


def test_what_a_suite_cannot_do_says_so(make_env: Make) -> None:
    class Bare(Counting):
        can_snapshot = has_solution = has_progress = False
        solution = TaskSuite.solution
        progress = TaskSuite.progress

    env = make_env(suite=Bare())
    env.reset(seed=0)
    assert env.step(ADD)[4]["progress"] == 0.0
    for call in (env.snapshot, env.fork, env.solution):
        with pytest.raises(NotSupported, match="'counting'"):
            call()


# ---------------------------------------------------------------- shapers and other arguments of the programmer
@pytest.mark.parametrize(
    ("shaper", "message"),
    [
        (lambda episode: {"a": math.nan}, "nan for part 'a'"),
        (lambda episode: {"a": 0.0, "b": -math.inf}, "-inf for part 'b'"),
        (lambda episode: 1.0, "a mapping of part names to numbers, got 1.0"),
        (lambda episode: None, "a mapping of part names to numbers, got None"),
        (lambda episode: {"a": None}, "a mapping of part names to numbers"),
        (lambda episode: {"a": 10**400}, "a mapping of part names to numbers"),
    ],
)
def test_a_shaper_that_returns_no_numbers_raises(make_env: Make, shaper: Any, message: str) -> None:
    env = make_env(suite=Counting(), shaper=shaper)
    env.reset(seed=0)
    with pytest.raises(InvalidArgument, match=message):
        env.step(ADD)


def test_a_fault_within_a_shaper_is_its_own(make_env: Make) -> None:
    def shaper(episode: Any) -> dict[str, float]:
        return {"a": 1.0 + None}  # type: ignore[operator]

    env = make_env(suite=Counting(), shaper=shaper)
    env.reset(seed=0)
    with pytest.raises(TypeError, match="unsupported operand"):
        env.step(ADD)


def test_a_shaper_sees_the_whole_episode(make_env: Make) -> None:
    seen: list[tuple[int, str]] = []

    def shaper(episode: Any) -> dict[str, int]:
        seen.append((len(episode), episode[-1].result.content))
        return {"steps": len(episode)}

    env = make_env(suite=Counting(), shaper=shaper)
    env.reset(seed=0)
    assert [env.step(ADD)[1] for _ in range(3)] == [1.0, 2.0, 3.0]
    assert seen == [(1, "The counter shows 1."), (2, "The counter shows 2."), (3, "The counter shows 3.")]


class Empty(Counting):
    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"suite": "wrlds"}, "Did you mean 'worlds'"),
        ({"suite": "worlds", "levl": 2}, "Did you mean 'level'"),
        ({"suite": Counting(), "level": 2}, r"\['level'\] go to a suite given by name"),
        ({"suite": None}, "got None"),
        ({"suite": Empty()}, "has no tasks"),
        ({"shaper": "stptool"}, "Did you mean 'steptool'"),
        ({"shaper": 3}, "got 3"),
        ({"max_steps": 0}, "got 0"),
        ({"max_steps": 2.5}, "got 2.5"),
        ({"render_mode": "humn"}, "got 'humn'"),
    ],
    ids=shown,
)
def test_wrong_arguments_raise_with_the_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(StepToolError, match=message):
        StepToolEnv(**options)


def test_the_cost_of_a_step_does_not_grow_with_the_episode(make_env: Make) -> None:
    env = make_env(suite=Counting(max_steps=200))
    first: list[float] = []
    last: list[float] = []
    for _ in range(10):
        env.reset(seed=0)
        times = []
        for _ in range(200):
            start = time.perf_counter()
            env.step(ADD)
            times.append(time.perf_counter() - start)
        first += times[10:30]
        last += times[180:]
    assert statistics.median(last) < 2 * statistics.median(first)
