from __future__ import annotations

import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import scripted
from gymnasium.utils.env_checker import data_equivalence
from hypothesis import given
from hypothesis import strategies as st
from toy import Counter, Counting

from steptool_env import FINISH, Episode, Message, Task, Tool, ToolCall, Toolkit
from steptool_env.errors import InvalidArgument
from steptool_env.tasks.worlds.tools import tools_of
from steptool_env.wrappers import StepToolDiscreteEnv
from steptool_env.wrappers.catalog import Form, bind, forms_of, takes_any_text
from steptool_env.wrappers.discrete import FEATURES, tool_code
from steptool_env.wrappers.memory import Memory, Value

CHAINS: dict[str, Any] = {"domains": ("shop", "travel", "clinic"), "families": ("lookup", "change"), "faults": 0, "lookalikes": 0}
"""The tasks of ``worlds`` whose calls take one value each."""


def make(**options: Any) -> StepToolDiscreteEnv:
    if options.get("suite", "worlds") == "worlds":
        options = {**CHAINS, **options}
    options = {"observation": "rows", **options}
    env = gym.make("StepToolDiscrete-v0", **options).unwrapped
    assert isinstance(env, StepToolDiscreteEnv)
    return env


# ---------------------------------------------------------------- nothing is lost
WORLDS: dict[str, Any] = {"families": ("lookup", "change"), "domains": ("clinic", "shop", "travel")}


@pytest.mark.parametrize("replies", ["record", "field"])
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
def test_a_policy_that_sees_only_the_numbers_solves_every_task(level: int, split: str, replies: str) -> None:
    env = make(level=level, split=split, replies=replies, **WORLDS)
    for task in range(30):
        observation, _ = env.reset(options={"task": task})
        steps, over = len(env.solution()), False
        while not over:
            observation, _, terminated, truncated, info = env.step(scripted.act(observation))
            over = terminated or truncated
        assert info["success"] == 1.0, env.episode.messages if env.episode else None
        assert env.episode is not None
        assert len(env.episode) == steps  # and takes no step too many


def test_codes_of_tools_differ() -> None:
    names = [name for domain in CHAINS["domains"] for name in tools_of(domain)] + ["finish"]
    assert len({tuple(tool_code(name)) for name in names}) == len(names)


@pytest.mark.parametrize("replies", ["record", "field"])
@pytest.mark.parametrize("level", [1, 5])
def test_every_step_of_the_solution_is_in_the_catalog(level: int, replies: str) -> None:
    env = make(level=level, replies=replies, **WORLDS)
    for task in range(30):
        env.reset(options={"task": task})
        over = False
        while not over:
            action = env.index(env.solution()[0])
            assert action is not None
            assert env.action_masks()[action]
            assert env.call(action) == env.solution()[0]
            *_, terminated, truncated, info = env.step(action)
            over = terminated or truncated
        assert info["success"] == 1.0


# ---------------------------------------------------------------- actions
def test_masks_are_where_the_calls_are() -> None:
    env = make(level=1)
    _, info = env.reset(seed=0)
    masks = env.action_masks()
    assert masks.dtype == np.bool_
    assert masks.shape == (96,)
    assert np.array_equal(masks, [env.call(action) is not None for action in range(96)])
    assert np.array_equal(masks, info["action_mask"].astype(bool))
    assert 0 < masks.sum() < 96
    for _ in range(20):
        assert masks[env.action_space.sample(info["action_mask"])]


def test_a_masked_action_is_answered_and_the_episode_goes_on() -> None:
    env = make(level=1)
    env.reset(seed=0)
    action = int(np.argmin(env.action_masks()))
    _, reward, terminated, truncated, info = env.step(action)
    assert reward < 0
    assert info["tool_error"] == "malformed"
    assert not (terminated or truncated)
    assert env.episode is not None
    assert "is no call now" in env.episode.messages[-1].content


ACTIONS = st.integers() | st.floats() | st.none() | st.text() | st.binary() | st.lists(st.integers(), max_size=3) | st.sampled_from([10**5000, -(10**5000)])

LEVEL_1 = StepToolDiscreteEnv("worlds", level=1, observation="rows")


@given(action=ACTIONS)
def test_no_action_raises(action: Any) -> None:
    env = LEVEL_1
    env.reset(seed=0)
    observation, _, _, _, info = env.step(action)
    assert env.observation_space.contains(observation)
    assert env.episode is not None
    assert info["tool_error"] == "" or len(env.episode.messages[-1].content) > 20


@pytest.mark.parametrize("action", [np.int64(14), np.array(14), np.array([14]), 14])
def test_all_kinds_of_integers_are_actions(action: Any) -> None:
    env = make(level=1)
    env.reset(seed=0)
    env.step(action)
    assert env.episode is not None
    expected = env.episode[0].action
    env.reset(seed=0)
    env.step(14)
    assert env.episode[0].action == expected


# ---------------------------------------------------------------- observations
def test_rows_and_features() -> None:
    env = make(level=1)
    observation, _ = env.reset(seed=0)
    rows = env.rows(observation)
    assert rows.shape == (96, len(FEATURES)) == (96, 54)
    assert env.rows(np.stack([observation] * 3)).shape == (3, 96, 54)
    assert np.array_equal(rows[:, 0] > 0, env.action_masks())
    assert not rows[~env.action_masks()].any()
    assert rows[: env.values, FEATURES.index("finish")].any()
    assert not rows[2 * env.values :, FEATURES.index("finish")].any()


def test_a_failed_call_is_remembered() -> None:
    env = make(level=1)
    observation, _ = env.reset(options={"task": 0})
    wrong = next(  # a tool that does not fit
        action for action in np.flatnonzero(env.action_masks()) if action >= 2 * env.values and env.call(action) != env.solution()[0]
    )
    before = env.rows(observation)[wrong]
    after = env.rows(env.step(int(wrong))[0])[wrong]
    assert before[FEATURES.index("repeats a bad call")] == 0
    assert after[FEATURES.index("repeats a bad call")] == 1
    assert after[FEATURES.index("last call failed")] == 1


def test_observations_are_fresh_arrays() -> None:
    env = make(level=1)
    first, _ = env.reset(seed=0)
    copy = first.copy()
    env.step(0)
    env.reset()
    assert np.array_equal(first, copy)


def test_copies_go_on_the_same() -> None:
    env = make(level=2)
    env.action_space.seed(1)
    env.reset(seed=1)
    env.step(scripted.act(env.reset(seed=1)[0]))
    saved = env.snapshot()
    twin = env.fork()
    assert np.array_equal(twin.action_masks(), env.action_masks())

    def go_on(one: StepToolDiscreteEnv) -> list[Any]:
        return [one.step(one.action_space.sample(one.action_masks().astype(np.int8))) for _ in range(2)]

    expected = go_on(env)
    assert data_equivalence(go_on(twin), expected)
    env.restore(pickle.loads(pickle.dumps(saved)))
    assert data_equivalence(go_on(env), expected)


# ---------------------------------------------------------------- other suites
def test_numbers_bind_to_integer_arguments() -> None:
    env = make(suite=Counting())
    env.reset(options={"task": 1})
    total = 0.0
    for call in (ToolCall("add", {"amount": 4}), ToolCall("finish", {"answer": "4"})):
        action = env.index(call)
        assert action is not None
        _, reward, terminated, _, info = env.step(action)
        total += reward
    assert terminated
    assert info["success"] == 1.0
    assert total == pytest.approx(1.5)


def test_a_task_with_more_tools_than_the_catalog_says_what_to_do() -> None:
    env = make(suite=Counting(), forms=2)
    with pytest.raises(InvalidArgument, match="forms=6"):
        env.reset(seed=0)


@pytest.mark.parametrize(("name", "value"), [("forms", 0), ("values", 7), ("values", 8.0), ("forms", True)])
def test_wrong_sizes_raise(name: str, value: Any) -> None:
    with pytest.raises(InvalidArgument, match=name):
        make(**{name: value})


def _tool(required: list[str], **properties: Any) -> Tool:
    return Tool("f", "", {"type": "object", "properties": properties, "required": required, "additionalProperties": False}, lambda **arguments: "")


SLOTS = [Value("Paris", "city", 1, 0), Value("Rome", "to", 1, 1), Value(7, "nights", 1, 2), Value(True, "open", 1, 3), None, Value("12", "", 0, 4)]
TEXT, NUMBER = {"type": "string"}, {"type": "integer"}


@pytest.mark.parametrize(
    ("tool", "slot", "expected"),
    [
        (_tool([]), 0, {}),
        (_tool([]), 1, None),
        (_tool([], a=TEXT), 0, {}),
        (_tool(["a"], a=TEXT), 0, {"a": "Paris"}),
        (_tool(["a"], a=TEXT), 2, {"a": "7"}),
        (_tool(["a"], a=TEXT), 3, None),
        (_tool(["a"], a=TEXT), 4, None),
        (_tool(["a"], a=NUMBER), 0, None),
        (_tool(["a"], a=NUMBER), 2, {"a": 7}),
        (_tool(["a"], a=NUMBER), 5, {"a": 12}),
        (_tool(["a"], a={"type": "integer", "maximum": 9}), 5, None),
        (_tool(["a"], a={"type": "number"}), 5, {"a": 12.0}),
        (_tool(["a"], a={"enum": ["x", "y"]}), 1, {"a": "y"}),
        (_tool(["a"], a={"type": "boolean"}), 1, {"a": True}),
        (_tool(["a"], a={"type": "array", "items": TEXT}), 1, {"a": ["Rome"]}),
        (_tool(["a"], a={"type": "object"}), 0, None),
        (_tool(["origin", "to_city"], origin=TEXT, to_city=TEXT), 1, {"origin": "Rome", "to_city": "Paris"}),
        (_tool(["a", "nights"], a=TEXT, nights=NUMBER), 0, {"a": "Paris", "nights": 7}),
        (_tool(["a", "b"], a=TEXT, b=TEXT), 0, {"a": "Paris", "b": "Rome"}),
        (_tool(["a", "b"], a=TEXT, b={"enum": ["x", "Rome"]}), 0, {"a": "Paris", "b": "x"}),
        (_tool(["a", "b"], a=TEXT, b={"enum": [*range(99), "Rome"]}), 0, {"a": "Paris", "b": "Rome"}),
        (_tool(["b", "a"], a=TEXT, b={"enum": ["x", "y"]}), 1, {"b": "x", "a": "Rome"}),
        (_tool(["a"], a=TEXT, b=TEXT), 1, {"a": "Rome"}),
        (_tool(["a", "b"], a=TEXT, b={"type": "object"}), 0, None),
    ],
)
def test_bindings(tool: Tool, slot: int, expected: dict[str, Any] | None) -> None:
    assert bind(forms_of(tool)[0], slot, SLOTS) == expected


ROOM = {"enum": ["single", "double"], "default": "single"}


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        (FINISH, [{"answer": "Paris"}, {"answer": "Paris", "give_up": True}]),
        (_tool(["a", "b"], a=TEXT, b={"enum": ["x", "y"]}), [{"a": "Paris", "b": "x"}, {"a": "Paris", "b": "y"}]),
        (_tool(["a"], a=TEXT, room=ROOM), [{"a": "Paris"}, {"a": "Paris", "room": "double"}]),
        (_tool(["a"], a=TEXT, nights=NUMBER), [{"a": "Paris"}, {"a": "Paris", "nights": 7}]),
        (_tool([], city=TEXT), [{}, {"city": "Paris"}]),
        (_tool([], all={"type": "boolean"}), [{}, {"all": False}, {"all": True}]),
        (_tool(["a", "b"], a=TEXT, b={"enum": ["x", "y"]}, c={"const": 1}), [{"a": "Paris", "b": b, **c} for c in ({}, {"c": 1}) for b in "xy"]),
        (_tool(["a", "b"], a=TEXT, b={"enum": list(range(64))}, c=TEXT), [{"a": "Paris", "b": b} for b in range(64)]),
    ],
)
def test_forms(tool: Tool, expected: list[dict[str, Any]]) -> None:
    assert [bind(form, 0, SLOTS) for form in forms_of(tool)] == expected


def test_giving_up_is_an_action() -> None:
    env = make(suite=Counting())
    env.reset(options={"task": 1})
    action = env.index(ToolCall("finish", {"answer": "4", "give_up": True}))
    assert action is not None
    *_, terminated, _, info = env.step(action)
    assert terminated
    assert info["tool_error"] == ""


def test_the_choice_that_is_asked_for_next_is_marked() -> None:
    """What is the phone of the store of drug J35? The store first, then the phone."""
    env = make(level=1, replies="field", **WORLDS)
    task = next(index for index in range(100) if (tags := env.suite[index].tags)["family"] == "lookup" and tags["depth"] == 2)
    observation, _ = env.reset(options={"task": task})
    for call in env.solution()[:-1]:
        action = env.index(call)
        assert action is not None
        rows = env.rows(observation)
        assert rows[action, FEATURES.index("nearest choice")] == 1
        assert rows[action, FEATURES.index("choice mentioned")] == 1
        same_tool = (rows[:, FEATURES.index("tool 0") : FEATURES.index("tool 15") + 1] == tool_code(call.name)).all(1)
        same_value = np.arange(len(rows)) % env.values == action % env.values
        assert rows[same_tool & same_value, FEATURES.index("nearest choice")].sum() == 1
        observation, *_ = env.step(action)


def test_one_open_text_is_the_usual_case() -> None:
    def first(tool: Tool) -> Form:
        return forms_of(tool)[0]

    assert all(map(takes_any_text, forms_of(FINISH)))
    assert takes_any_text(first(_tool(["a"], a=TEXT)))
    assert all(map(takes_any_text, forms_of(_tool(["a", "b"], a=TEXT, b={"enum": ["x", "y"]}))))
    assert not takes_any_text(first(_tool(["a"], a={"type": "string", "minLength": 3})))
    assert not takes_any_text(first(_tool(["a", "b"], a=TEXT, b=TEXT)))
    assert not takes_any_text(forms_of(_tool(["a"], a=TEXT, b=TEXT))[1])


def test_memory_reads_texts_and_results() -> None:
    memory = Memory()
    memory.hear("Cancel order O12 for 'Ada Lovelace', please.")
    memory.see('{"total": 3, "items": [{"id": "P1"}, {"id": "P2"}], "note": null}')
    memory.see("The counter shows 4.")
    said = {(value.role, value.content) for value in memory.values.values() if value.source == 0}
    assert said == {("order", "O12"), ("for", "Ada Lovelace")}
    assert [(value.role, value.content) for value in memory.recent(8)[:4] if value] == [("shows", "4"), ("total", 3), ("id", "P1"), ("id", "P2")]
    assert [value.content if value else None for value in memory.recent(8)] == ["4", 3, "P1", "P2", None, None, "O12", "Ada Lovelace"]
    assert memory.place("order") == 1
    assert memory.place("nothing") is None


@given(text=st.text())
def test_memory_reads_anything(text: str) -> None:
    memory = Memory()
    memory.hear(text)
    memory.see(text)
    assert len(memory.recent(16)) == 16


def test_a_suite_with_several_turns_is_played() -> None:
    class Chat(Counting):
        def toolkit(self, task: Task) -> Toolkit:
            return Toolkit(self.tools, Counter())

        def after_finish(self, task: Task, episode: Episode) -> str | None:
            return super().after_finish(task, episode)

    env = make(suite=Chat(turns=2))
    env.reset(options={"task": 0})
    action = env.index(ToolCall("finish", {"answer": "3"}))
    assert action is not None
    _, _, terminated, _, _ = env.step(action)
    assert not terminated
    assert env.episode is not None
    assert env.episode.messages[-1] == Message("user", "And now to 4.")
    assert env.index(ToolCall("add", {"amount": 4})) is not None
