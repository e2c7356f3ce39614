"""Suite ``bfcl``: gold solves it, its verdicts are the official ones, and episodes share nothing."""

from __future__ import annotations

import copy
import importlib.util
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from decimal import getcontext
from typing import Any

import jsonschema_rs
import pytest
from benchmark_files import load

from steptool_env import StepToolEnv, Task, ToolCall, ToolCallSpace, make_suite
from steptool_env.errors import DataError, MissingExtra, UnknownName
from steptool_env.tasks import bfcl, bfcl_simulators
from steptool_env.tasks.bfcl import CATEGORIES, Bfcl

MakeEnv = Callable[..., StepToolEnv]
Turns = list[list[ToolCall]]


needs_bfcl = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("bfcl_eval", "mpmath")),
    reason="bfcl-eval is not installed: pip install --no-deps bfcl-eval==2026.3.23 mpmath==1.3.0",
)
DONE = ToolCall("finish", {"answer": "Done."})


def gold(task: Task) -> Turns:
    return [list(turn) for turn in task.data.gold]


def play(env: StepToolEnv, task: Task, turns: Turns) -> list[dict[str, Any]]:
    """Play these calls, with ``finish`` after every turn, until the episode ends; return the infos."""
    env.reset(options={"task": task.id})
    infos = []
    for turn in turns:
        for call in [*turn, DONE]:
            *_, terminated, truncated, info = env.step(call)
            infos.append(info)
            if terminated or truncated:
                return infos
    raise AssertionError("the episode did not end")


# -------------------------------------------------------------------- gold and nothing
@needs_bfcl
@pytest.mark.parametrize("category", CATEGORIES)
def test_gold_solves_every_task_without_an_error(make_env: MakeEnv, category: str) -> None:
    env = make_env(suite="bfcl", category=category, split="all")
    assert len(env.suite) == 200
    for task in env.suite:
        observation, info = env.reset(options={"task": task.id})
        assert observation["messages"][0] == ("user", task.instruction)
        assert info["progress"] == 0.0
        calls = env.solution()
        assert len(calls) <= task.max_steps
        for step, call in enumerate(calls):
            *_, terminated, truncated, info = env.step(call)
            assert info["tool_error"] == "", (task.id, call)
            assert not truncated
            assert terminated == (step == len(calls) - 1)
        assert (info["success"], info["progress"]) == (1.0, 1.0), task.id


@needs_bfcl
@pytest.mark.parametrize("category", CATEGORIES)
def test_doing_nothing_solves_no_task(make_env: MakeEnv, category: str) -> None:
    env = make_env(suite="bfcl", category=category, split="all")
    for task in env.suite:
        turns = gold(task)
        last = play(env, task, [[]] * len(turns))[-1]
        assert last["success"] == 0.0
        assert last["progress"] == pytest.approx(sum(not turn for turn in turns) / len(turns))
        first = next(number for number, turn in enumerate(turns, 1) if turn)
        assert env.episode is not None
        assert env.episode[-1].outcome.reason == f"turn {first} of {len(turns)}: no tool was called"  # type: ignore[union-attr]


# -------------------------------------------------------------------- the official verdict
verdicts = load("bfcl_verdicts")


def variants(task: Task) -> dict[str, Turns]:
    turns = gold(task)
    full = [index for index, turn in enumerate(turns) if turn]
    first, last = full[0], full[-1]

    def changed(index: int, turn: list[ToolCall]) -> Turns:
        return [*turns[:index], turn, *turns[index + 1 :]]

    return {
        "gold": turns,
        "first call dropped": changed(first, turns[first][1:]),
        "last call dropped": changed(last, turns[last][:-1]),
        "first call twice": changed(first, [turns[first][0], *turns[first]]),
        "all calls twice": [[call for call in turn for _ in range(2)] for turn in turns],
        "reversed": [turn[::-1] for turn in turns],
        "unknown call first": changed(first, [ToolCall("no_such_tool", {"x": 1}), *turns[first]]),
        "unknown call only": changed(first, [ToolCall("no_such_tool", {})]),
        "one turn late": [[], *turns[:-2], [*turns[-2], *turns[-1]]] if len(turns) > 1 else [[]],
        "nothing": [[] for _ in turns],
    }


@needs_bfcl
@pytest.mark.parametrize("category", CATEGORIES)
def test_verdicts_are_the_official_ones(make_env: MakeEnv, category: str) -> None:
    env = make_env(suite="bfcl", category=category, split="all")
    official = verdicts.Official(category)
    seen: set[tuple[str, bool]] = set()
    for number in range(0, 200, 8):
        task = env.suite[number]
        for variant, turns in variants(task).items():
            expected = official.valid(task.id, turns)
            infos = play(env, task, turns)
            assert infos[-1]["success"] == expected, (task.id, variant, env.episode[-1].outcome)  # type: ignore[index]
            seen.add((variant, expected))
    assert {("gold", True), ("nothing", False), ("unknown call first", True), ("first call dropped", False)} <= seen
    assert {("gold", False), ("nothing", True), ("unknown call first", False), ("unknown call only", True)}.isdisjoint(seen)


@needs_bfcl
def test_judging_twice_gives_the_same(make_env: MakeEnv) -> None:
    env = make_env(suite="bfcl", split="test")
    for task in env.suite:
        wrong = [[], *gold(task)[1:]]
        results = [play(env, task, turns)[-1]["success"] for turns in (gold(task), wrong, gold(task), wrong)]
        assert results[0] == results[2] == 1.0
        assert results[1] == results[3]
        assert env.episode is not None
        assert env.suite.grade(task, env.episode) == env.suite.grade(task, env.episode) == env.episode[-1].outcome


# -------------------------------------------------------------------- nothing is shared, nothing is left behind
@needs_bfcl
def test_nothing_is_left_in_the_package_or_the_process(make_env: MakeEnv) -> None:
    import mpmath

    env = make_env(suite="bfcl", split="all")
    padded = make_env(suite="bfcl", category="long_context", split="test")
    play(env, env.suite[0], gold(env.suite[0]))  # whatever is imported lazily is imported now
    play(padded, padded.suite[0], gold(padded.suite[0]))

    def globals_of_the_package() -> dict[str, set[str]]:
        return {name: set(vars(module)) for name, module in sys.modules.items() if name.partition(".")[0] == "bfcl_eval"}

    from bfcl_eval.eval_checker.multi_turn_eval.func_source_code import long_context
    from bfcl_eval.eval_checker.multi_turn_eval.func_source_code.posting_api import TwitterAPI

    # The simulator itself writes the current temperature into this one, right before it returns it.
    padding = {name: copy.deepcopy(value) for name, value in vars(long_context).items() if name.isupper() and name != "LONG_WEATHER_EXTENSION"}
    assert padding
    names, precision, places = globals_of_the_package(), mpmath.mp.dps, getcontext().prec
    for one in (env, padded):
        for task in one.suite:
            play(one, task, gold(task))
    travel = next(task for task in padded.suite if "TravelAPI" in task.data.classes)
    padded.reset(options={"task": travel.id})
    simulator = padded.episode.toolkit.state.simulators["TravelAPI"]  # type: ignore[union-attr]
    for card in simulator.credit_card_list.values():
        card["balance"] = -1.0
    assert globals_of_the_package() == names
    assert (mpmath.mp.dps, getcontext().prec) == (precision, places)
    assert TwitterAPI.post_tweet.__defaults__ == ([], [])
    assert {name: getattr(long_context, name) for name in padding} == padding


@needs_bfcl
def test_precision_is_that_of_the_call(make_env: MakeEnv) -> None:
    env = make_env(suite="bfcl", split="all")
    task = next(task for task in env.suite if "MathAPI" in task.data.classes)
    env.reset(options={"task": task.id})
    observation, *_ = env.step(ToolCall("logarithm", {"value": 8, "base": 2, "precision": 5}))
    assert observation["messages"][-1].content == "{'result': mpf('3.0')}"
    observation, *_ = env.step(ToolCall("square_root", {"number": 2, "precision": 4}))
    assert observation["messages"][-1].content == "{'result': Decimal('1.414')}"
    for call in (ToolCall("power", {"base": 9, "exponent": 10**9}), ToolCall("round_number", {"number": 5, "decimal_places": -(10**9)})):
        *_, info = env.step(call)  # would fill the memory
        assert info["tool_error"] == "bad_arguments"


@needs_bfcl
def test_later_calls_change_neither_arguments_nor_the_log(make_env: MakeEnv) -> None:
    env = make_env(suite="bfcl", split="all")
    task = next(task for task in env.suite if "TwitterAPI" in task.data.classes and task.data.config["TwitterAPI"].get("authenticated"))
    arguments: dict[str, Any] = {"content": "a", "mentions": ["@x"]}
    env.reset(options={"task": task.id})
    observation, *_ = env.step({"name": "post_tweet", "arguments": arguments})
    posted = json.loads(observation["messages"][-1].content)
    *_, info = env.step(ToolCall("mention", {"tweet_id": posted["id"], "mentioned_usernames": ["@y"]}))
    assert info["tool_error"] == ""
    assert arguments == {"content": "a", "mentions": ["@x"]}
    assert env.episode is not None
    assert env.episode[0].action == ToolCall("post_tweet", {"content": "a", "mentions": ["@x"]})
    assert env.episode.toolkit.state.simulators["TwitterAPI"].tweets[posted["id"]]["mentions"] == ["@x", "@y"]

    for _ in range(2):  # lists left out are new ones, too, in every episode
        env.reset(options={"task": task.id})
        observation, *_ = env.step(ToolCall("post_tweet", {"content": "a"}))
        assert json.loads(observation["messages"][-1].content)["mentions"] == []
        env.step(ToolCall("mention", {"tweet_id": posted["id"], "mentioned_usernames": ["@y"]}))


@needs_bfcl
def test_solutions_are_copies(make_env: MakeEnv) -> None:
    env = make_env(suite="bfcl", split="all")
    for task in env.suite:
        env.reset(options={"task": task.id})
        for call in env.solution():
            for value in call.arguments.values():
                if isinstance(value, list | dict):
                    value.clear()
            assert isinstance(call.arguments, dict)
            call.arguments.clear()
    assert play(env, env.suite[0], gold(env.suite[0]))[-1]["success"] == 1.0
    assert all(call.arguments for turn in gold(env.suite[0]) for call in turn)


# -------------------------------------------------------------------- mistakes are observations
@needs_bfcl
def test_mistakes_of_the_agent_are_error_observations(make_env: MakeEnv) -> None:
    env = make_env(suite="bfcl", split="all")
    env.reset(options={"task": "multi_turn_base_0"})
    state = env.episode.toolkit.state  # type: ignore[union-attr]
    for action, error in [
        ({"name": "__class__", "arguments": {}}, "unknown_tool"),
        ({"name": "_load_scenario", "arguments": {"scenario": {}}}, "unknown_tool"),
        ({"name": "GorillaFileSystem.ls", "arguments": {}}, "unknown_tool"),
        ({"name": "cd('document') or __import__('os').getcwd", "arguments": {}}, "unknown_tool"),
        ({"name": "cd", "arguments": {}}, "bad_arguments"),
        ({"name": "cd", "arguments": {"folder": 3}}, "bad_arguments"),
        ({"name": "cd", "arguments": {"folder": "document", "self": 1}}, "bad_arguments"),
        ({"name": "cd", "arguments": {"folder": "no such folder"}}, "rejected"),
        ({"name": "finish", "arguments": {}}, "bad_arguments"),
        ("cd document", "malformed"),
        ({"name": "cd", "arguments": {"folder": "document"}}, ""),
    ]:
        observation, _, terminated, truncated, info = env.step(action)
        assert info["tool_error"] == error, action
        assert not terminated and not truncated
        assert observation["messages"][-1].role == "tool"
    assert len(state.responses) == 2  # only what reached a simulator is on record
    assert state.responses[0].startswith('{"error"')


@needs_bfcl
def test_copying_a_folder_into_itself_ends_in_a_verdict(make_env: MakeEnv) -> None:
    env = make_env(suite="bfcl", split="all")
    env.reset(options={"task": "multi_turn_base_0"})
    for call in (
        ToolCall("cp", {"source": "temp", "destination": "temp"}),
        ToolCall("mkdir", {"dir_name": "a"}),
        ToolCall("cp", {"source": "a", "destination": "a"}),
    ):
        env.step(call)
    *_, info = env.step(ToolCall("find", {}))
    assert info["tool_error"] == "rejected"
    twin = env.fork()
    for one in (env, twin):
        terminated = False
        while not terminated:
            *_, terminated, _, info = one.step(DONE)
        assert info["success"] == 0.0


@needs_bfcl
def test_calls_drawn_at_random_never_raise(make_env: MakeEnv) -> None:
    for category in CATEGORIES:
        env = make_env(suite="bfcl", category=category, split="test")
        assert isinstance(env.action_space, ToolCallSpace)
        env.action_space.seed(0)
        for index in range(0, 40, 4):
            env.reset(seed=index, options={"task": index})
            for _ in range(60):
                observation, _, terminated, truncated, info = env.step(env.action_space.sample())
                assert info["tool_error"] in ("", "rejected", "over_budget", "bad_arguments")
                assert 0.0 <= info["progress"] <= 1.0
                assert all(message.content.encode() is not None for message in observation["messages"][-2:])
                if terminated or truncated:
                    break


# -------------------------------------------------------------------- turns, budgets, tools that come later
@needs_bfcl
def test_a_turn_takes_twenty_calls(make_env: MakeEnv) -> None:
    env = make_env(suite="bfcl", split="all")
    task = env.suite[env.suite.index("multi_turn_base_0")]
    turns = gold(task)
    assert task.max_steps == 21 * len(turns)
    spare = [ToolCall("pwd")] * (20 - len(turns[0]))
    assert play(env, task, [spare + turns[0], *turns[1:]])[-1]["success"] == 1.0

    infos = play(env, task, [spare + turns[0] + [ToolCall("pwd")], *turns[1:]])
    assert [info["tool_error"] for info in infos[:22]] == [""] * 20 + ["over_budget", ""]
    assert infos[-1]["success"] == 0.0
    assert infos[-1]["progress"] == pytest.approx(1 - 1 / len(turns))  # the later turns are judged for themselves
    assert env.episode is not None
    assert env.episode[-1].outcome.reason == f"turn 1 of {len(turns)}: more than 20 calls"  # type: ignore[union-attr]


@needs_bfcl
def test_an_episode_cut_off_is_not_solved(make_env: MakeEnv) -> None:
    env = make_env(suite="bfcl", split="all", max_steps=2)
    env.reset(options={"task": 0})
    for call in env.solution()[:2]:
        *_, terminated, truncated, info = env.step(call)
    assert (terminated, truncated, info["success"]) == (False, True, 0.0)
    assert env.episode is not None
    assert "cut off" in env.episode[-1].outcome.reason  # type: ignore[union-attr]


@needs_bfcl
def test_the_users_next_request_is_the_reply_to_finish(make_env: MakeEnv) -> None:
    env = make_env(suite="bfcl", split="all")
    task = env.suite[0]
    infos = play(env, task, gold(task))
    assert env.episode is not None
    said = [message.content for message in env.episode.messages if message.role == "user"]
    assert said == list(task.data.requests)
    assert sorted({info["progress"] for info in infos}) == [turn / len(said) for turn in range(len(said) + 1)]


@needs_bfcl
def test_withheld_tools_come_with_their_turn(make_env: MakeEnv) -> None:
    env = make_env(suite="bfcl", category="miss_func", split="all")
    for task in env.suite:
        script = task.data
        assert script.withheld
        observation, _ = env.reset(options={"task": task.id})
        early = env.snapshot()
        assert script.withheld.isdisjoint(task.tools)
        for turn, calls in enumerate(gold(task)):
            offered = {one["function"]["name"] for one in json.loads(observation["tools"])}
            assert "finish" in offered
            assert script.withheld.isdisjoint(offered) == (turn < script.reveal)
            assert script.withheld <= offered or turn < script.reveal
            for call in [*calls, DONE]:
                observation, *_ = env.step(call)
        late = env.snapshot()
        env.restore(early)
        *_, info = env.step(ToolCall(min(script.withheld), {}))
        assert info["tool_error"] == "unknown_tool"
        env.restore(late)
        assert env.episode is not None
        assert script.withheld <= set(env.episode.toolkit)


@needs_bfcl
def test_long_contexts_are_longer(make_env: MakeEnv) -> None:
    lengths = []
    for category in ("base", "long_context"):
        env = make_env(suite="bfcl", category=category, split="test")
        lengths.append(0)
        for task in env.suite:
            play(env, task, gold(task))
            assert env.episode is not None
            lengths[-1] += sum(len(message.content) for message in env.episode.messages)
            assert all(len(message.content) < 21_000 for message in env.episode.messages)
    assert lengths[1] > 3 * lengths[0]


@needs_bfcl
def test_the_solution_goes_on_from_anywhere_on_the_way(make_env: MakeEnv) -> None:
    env = make_env(suite="bfcl", split="test")
    for task in env.suite:
        env.reset(options={"task": task.id})
        whole = env.solution()
        for done in range(len(whole)):
            assert env.solution() == whole[done:], task.id
            env.step(ToolCall("no_such_tool"))  # a detour without harm
            env.step(whole[done])
        assert env.solution() == []
    env.reset(options={"task": "multi_turn_base_0"})
    env.step(DONE)
    assert env.solution() == []  # the first turn was invalid


# -------------------------------------------------------------------- snapshots
def rest(env: StepToolEnv, calls: Sequence[ToolCall]) -> list[Any]:
    return [env.step(call) for call in calls]


@needs_bfcl
@pytest.mark.parametrize("category", ["base", "long_context"])
def test_snapshots_and_forks_go_on_identically(make_env: MakeEnv, category: str) -> None:
    env = make_env(suite="bfcl", category=category, split="test")
    for task in env.suite:
        env.reset(seed=1, options={"task": task.id})
        calls = env.solution()
        half = len(calls) // 2
        rest(env, calls[:half])
        twin = env.fork()
        snapshot = pickle.loads(pickle.dumps(env.snapshot()))
        others = rest(twin, [ToolCall("finish", {"answer": ""})])  # what the twin does leaves the first alone
        assert others
        first = rest(env, calls[half:])
        assert first[-1][-1]["success"] == 1.0, task.id
        for _ in range(2):
            env.restore(snapshot)
            assert rest(env, calls[half:]) == first
        fresh = make_env(suite="bfcl", category=category, split="test")
        fresh.restore(snapshot)
        assert rest(fresh, calls[half:]) == first


# -------------------------------------------------------------------- the suite as an object
@needs_bfcl
def test_the_split_goes_by_the_number_of_the_task() -> None:
    numbers: dict[str, set[frozenset[int]]] = {"train": set(), "test": set()}
    for category in CATEGORIES:
        for split, sets in numbers.items():
            suite = Bfcl(category, split)
            sets.add(frozenset(int(task.id.rsplit("_", 1)[1]) for task in suite))
            assert all(task.id.startswith(f"multi_turn_{category}_") and task.tags["category"] == category for task in suite)
            assert [suite.index(task.id) for task in suite] == list(range(len(suite)))
    (train,), (test,) = numbers["train"], numbers["test"]
    assert (len(train), len(test), len(train | test)) == (160, 40, 200)
    assert [task.id for task in make_suite("bfcl")] == [task.id for task in Bfcl("base", "train")]


@needs_bfcl
def test_the_suite_is_sized_and_picklable_and_says_what_is_wrong() -> None:
    suite = Bfcl("miss_func", "test")
    twin = pickle.loads(pickle.dumps(suite))
    assert [task.id for task in twin] == [task.id for task in suite]
    assert twin[3] == suite[3]
    assert len(pickle.dumps(suite)) < 500
    for index in (-1, 40):
        with pytest.raises(IndexError):
            suite[index]
    with pytest.raises(KeyError):
        suite.index("multi_turn_base_0")
    with pytest.raises(UnknownName, match="miss_func"):
        Bfcl("mis_func")
    with pytest.raises(UnknownName, match="train"):
        Bfcl(split="trian")


@needs_bfcl
def test_every_tool_has_a_valid_schema_and_a_method() -> None:
    from bfcl_eval.constants.executable_backend_config import MULTI_TURN_FUNC_DOC_FILE_MAPPING

    tools: dict[str, Mapping[str, Any]] = {}
    for class_name in [name for name in MULTI_TURN_FUNC_DOC_FILE_MAPPING if "Memory" not in name and "Web" not in name]:
        offered, text = bfcl_simulators.catalog((class_name,))
        assert [one["function"]["name"] for one in json.loads(text)] == list(offered)
        for name, one in offered.items():
            assert jsonschema_rs.meta.is_valid(dict(one.parameters)), name
            if name != "finish":
                assert set(one.parameters["properties"]) == set(bfcl_simulators.signature(class_name, name).parameters)
                tools[name] = one.parameters
    assert len(tools) == 128
    text = json.dumps(list(tools.values()))
    assert not any(f'"type": "{foreign}"' in text for foreign in ("dict", "float", "tuple", "any"))


def test_without_the_package_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    bfcl._load.cache_clear()
    with pytest.raises(MissingExtra, match="pip install --no-deps bfcl-eval"):
        make_suite("bfcl")


@needs_bfcl
def test_broken_data_name_file_and_line(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    good = '{"id": "multi_turn_base_0"}'
    (tmp_path / "a.json").write_text(f"{good}\n{{broken\n")
    with pytest.raises(DataError, match=r"a\.json, line 2: not JSON"):
        bfcl_simulators.read_jsonl(tmp_path / "a.json")
    with pytest.raises(MissingExtra, match=r"b\.json"):
        bfcl_simulators.read_jsonl(tmp_path / "b.json")
    (tmp_path / "possible_answer").mkdir()
    for folder in (tmp_path, tmp_path / "possible_answer"):
        (folder / "BFCL_v4_multi_turn_base.json").write_text(good)
    monkeypatch.setattr(bfcl, "data_folder", lambda: tmp_path)
    bfcl._load.cache_clear()
    with pytest.raises(DataError, match="line 1: KeyError"):
        Bfcl()
    bfcl._load.cache_clear()


@needs_bfcl
def test_the_package_is_loaded_late_and_only_in_part() -> None:
    code = """
import sys
import steptool_env.tasks.bfcl
assert not any(name.startswith("bfcl_eval") for name in sys.modules)
from steptool_env import StepToolEnv
env = StepToolEnv("bfcl")
env.reset(seed=0)
for call in env.solution():
    env.step(call)
for name in ("bfcl_eval.utils", "bfcl_eval.constants.eval_config", "torch", "requests"):
    assert name not in sys.modules, name
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
