"""Suite ``worlds``: solvable from what the tools say, not from what the prompt says, and the same everywhere."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from steptool_env import StepToolEnv, Task, ToolCall, make_suite
from steptool_env.errors import InvalidArgument, StepToolError, UnknownName
from steptool_env.tasks.worlds import LEVELS, Worlds
from steptool_env.tasks.worlds.domain import Change
from steptool_env.tasks.worlds.domains import DOMAINS, UNSEEN
from steptool_env.tasks.worlds.families import FAMILIES
from steptool_env.tasks.worlds.levels import DOMAIN_NAMES, FAMILY_NAMES, REPLIES
from steptool_env.tasks.worlds.plan import Fact
from steptool_env.tasks.worlds.tools import tools_of
from steptool_env.tasks.worlds.world import World
from steptool_env.tasks.wrapped import Faulty

MakeEnv = Callable[..., StepToolEnv]
each_level = pytest.mark.parametrize("level", LEVELS)
each_split = pytest.mark.parametrize("split", ["train", "test"])
each_form = pytest.mark.parametrize("replies", REPLIES)


def world(env: StepToolEnv) -> World:
    assert env.episode is not None
    state = env.episode.toolkit.state
    assert isinstance(state, World)
    return state


def play(env: StepToolEnv, calls: list[ToolCall]) -> list[dict[str, Any]]:
    """Make these calls; return the infos."""
    return [env.step(call)[4] for call in calls]


def harms(env: StepToolEnv) -> list[ToolCall]:
    """Return a change that nobody asked for, and that cannot be undone, with every tool on offer that makes such changes."""
    plan = world(env).plan
    calls = []
    for change in DOMAINS[plan.domain].changes if not plan.rich else ():
        name, prefix = f"{change.verb}_{change.entity}", DOMAINS[plan.domain].entities[change.entity].prefix
        if name in env.task.tools:
            key = next(key for key in plan.entities if key.startswith(prefix) and ("done", name, key) not in plan.goals)
            calls.append(ToolCall(name, {f"{change.entity}_id": key}))
    return calls


CHAINS = ("lookup", "change")


# ---------------------------------------------------------------- solving
@each_level
@each_split
@each_form
def test_the_oracle_gets_everything(make_env: MakeEnv, level: int, split: str, replies: str) -> None:
    env = make_env(suite="worlds", level=level, split=split, size=60, replies=replies)
    for task in range(60):
        env.reset(options={"task": task})
        solution = env.solution()
        assert len(solution) == world(env).start + 1 < env.task.max_steps
        assert {call.name for call in solution} <= {*env.task.tools}
        total, before = 0.0, 0.0
        for number, call in enumerate(solution):
            assert env.solution() == solution[number:]
            _, reward, terminated, truncated, info = env.step(call)
            total += reward
            assert not truncated
            assert info["tool_error"] == "" or world(env).plan.faults
            assert terminated == (call.name == "finish") == (number == len(solution) - 1)
            assert info["progress"] == before == 1.0 if terminated else info["progress"] == pytest.approx((number + 1) / world(env).start)
            before = info["progress"]
        assert info["success"] == 1.0
        assert total == pytest.approx(1.5) or world(env).plan.faults
        assert env.solution() == []


LOOKUP = re.compile(r"(?:What is|Find out|I need) the (?P<what>\w+) of (?P<way>(?:the \w+ of )*)(?P<kind>\w+) (?P<id>[A-Z]+\d\d)[?.]")
CHANGE = re.compile(
    r"(?:Please )?(?P<what>\w+) (?P<way>(?:the \w+ of )+)(?P<kind>\w+) (?P<id>[A-Z]+\d\d) and (?:tell me|report) the confirmation\.",
)


def read_and_solve(env: StepToolEnv, replies: str = "record") -> dict[str, Any]:
    """Solve the task from the instruction and the results alone, with the domain's schema, but without the plan."""
    entities = DOMAINS[str(env.task.tags["domain"])].entities
    asked = CHANGE.fullmatch(env.task.instruction) or LOOKUP.fullmatch(env.task.instruction)
    assert asked is not None, env.task.instruction
    kind, key = asked["kind"], asked["id"]

    def call(name: str, field: str) -> Any:
        by_field = field in str(tools_of(str(env.task.tags["domain"]), replies)[name].parameters)
        observation, *_, info = env.step(ToolCall(name, {f"{kind}_id": key} | ({"field": field} if by_field else {})))
        assert info["tool_error"] == ""
        record = json.loads(observation["messages"][-1].content)
        assert isinstance(record, dict)
        assert not by_field or [*record] == [field]
        return record[field]

    for relation in reversed(re.findall(r"the (\w+) of ", asked["way"])):
        key = call(f"get_{kind}", relation)
        kind = entities[kind].relations[relation]
    tool, wanted = (f"{asked['what'].lower()}_{kind}", "confirmation") if asked.re is CHANGE else (f"get_{kind}", asked["what"])
    answer = call(tool, wanted)
    *_, terminated, _, info = env.step(ToolCall("finish", {"answer": str(answer)}))
    assert terminated
    return info


@each_level
@each_form
def test_the_text_says_exactly_what_to_do(make_env: MakeEnv, level: int, replies: str) -> None:
    env = make_env(suite="worlds", level=level, split="test", replies=replies, families=CHAINS, faults=0, domains=list(DOMAINS))
    for task in range(60):
        env.reset(options={"task": task})
        assert read_and_solve(env, replies)["success"] == 1.0, env.task.instruction


def test_solution_in_mid_episode(make_env: MakeEnv) -> None:
    env = make_env(suite="worlds", level=3, max_steps=50, families=CHAINS)
    for task in range(40):
        env.reset(options={"task": task})
        gold, plan = env.solution(), world(env).plan
        first = gold[0]
        (argument,) = first.arguments
        useless = []
        for name in env.task.tools:
            kind = name.removeprefix("get_")
            if kind in DOMAINS[plan.domain].entities:
                prefix = DOMAINS[plan.domain].entities[kind].prefix
                useless += [ToolCall(name, {f"{kind}_id": key}) for key in plan.entities if key.startswith(prefix) and key not in plan.watched][:2]
        mistakes = [
            ToolCall(first.name, {argument: "O00"}),  # no such id
            ToolCall(first.name, {argument: plan.answer.text}),
            ToolCall(first.name, {}),
            ToolCall("get_weather", {"city": "Y10"}),  # no such tool
            ToolCall("finish", {}),  # an answer is missing: the episode goes on
        ]
        for info in play(env, [*useless[:3], *mistakes]):
            assert info["progress"] == 0.0
            assert env.solution() == gold
        play(env, gold[:1])
        play(env, mistakes)
        assert env.solution() == gold[1:]
        assert play(env, env.solution())[-1]["success"] == 1.0


def test_only_the_field_that_is_needed_counts(make_env: MakeEnv) -> None:
    env = make_env(suite="worlds", level=3, replies="field", max_steps=50, families=CHAINS)
    for task in range(40):
        env.reset(options={"task": task})
        gold, plan = env.solution(), world(env).plan
        fields = tools_of(plan.domain, "field")[gold[0].name].parameters["properties"]["field"]["enum"]
        for field in fields:
            if field != gold[0].arguments["field"]:
                (info,) = play(env, [ToolCall(gold[0].name, {**gold[0].arguments, "field": field})])
                assert info["progress"] == 0.0 and info["tool_error"] == ""
                assert env.solution() == gold
        (info,) = play(env, [ToolCall(gold[0].name, {**gold[0].arguments, "field": "colour"})])
        assert info["tool_error"] == "bad_arguments"
        assert play(env, gold)[-1]["success"] == 1.0


def test_any_order_will_do(make_env: MakeEnv) -> None:
    """Whoever knows the ids already need not follow the chain; a change need not come last."""
    env = make_env(suite="worlds", level=3, size=60, families=[name for name in FAMILIES if name != "procedure"])
    for task in range(60):
        env.reset(options={"task": task})
        *calls, end = env.solution()
        gains = [info["progress"] for info in play(env, calls[::-1])]
        assert gains == pytest.approx([(number + 1) / len(calls) for number in range(len(calls))])
        assert env.solution() == [end]
        assert play(env, [end])[0]["success"] == 1.0


def test_nothing_solves_it_after_irreparable_harm(make_env: MakeEnv) -> None:
    env = make_env(suite="worlds", level=5, max_steps=50, families=CHAINS, faults=0, lookalikes=0)
    harmed = 0
    for task in range(40):
        env.reset(options={"task": task})
        gold = env.solution()
        play(env, gold[:2])
        start = env.snapshot()
        for harm in harms(env):
            env.restore(start)
            (info,) = play(env, [harm])
            assert info["tool_error"] == "" and info["progress"] < start.progress
            assert env.solution() == []
            infos = play(env, gold)
            assert infos[-1]["success"] == 0.0
            assert env.episode is not None and env.episode[-1].outcome is not None
            assert "nobody asked for" in env.episode[-1].outcome.reason
            harmed += 1
        env.restore(start)
        assert env.solution() == gold[2:]
        assert play(env, env.solution())[-1]["success"] == 1.0
    assert harmed > 40


def test_the_wrong_change_of_the_right_thing_is_harm() -> None:
    suite = Worlds(level=2, families="change", domains="shop")
    plan = next(task.data for task in suite if task.data.goals[0][1] == "block_card")
    one = World(plan)
    one.change("lose_card", Change("card", "lose", "lost"), DOMAINS["shop"].entities["card"].prefix, plan.goals[0][2])
    assert one.harm == 1 and not one.done


# ---------------------------------------------------------------- verdicts
def verdict(env: StepToolEnv, answer: str, give_up: bool = False) -> tuple[float, str]:
    env.step(ToolCall("finish", {"answer": answer, "give_up": give_up}))
    assert env.episode is not None and env.episode[-1].outcome is not None
    return env.episode[-1].outcome.solved, env.episode[-1].outcome.reason


@pytest.mark.parametrize("family", FAMILIES)
def test_verdicts(make_env: MakeEnv, family: str) -> None:
    env = make_env(suite="worlds", level=3, families=family, domains="bank")
    for task in range(12):
        env.reset(options={"task": task})
        answer = env.task.data.answer
        early = verdict(env.fork(), answer.text, answer.give_up)
        assert early == ((0.0, "the change that was asked for was not made") if env.task.data.goals else (1.0, "solved"))
        play(env, env.solution()[:-1])
        assert verdict(env.fork(), f" {answer.text.upper()}\n", answer.give_up) == (1.0, "solved")
        for wrong in ("", answer.text + "0", answer.text[:-1], f"The answer is {answer.text}", env.task.instruction):
            assert verdict(env.fork(), wrong, answer.give_up) == (0.0, "the answer is wrong")
        said = "it was not declined" if answer.give_up else "it can be solved"
        solved, reason = verdict(env.fork(), answer.text, not answer.give_up)
        assert solved == 0.0 and said in reason


def test_an_episode_without_finish_is_not_solved(make_env: MakeEnv) -> None:
    env = make_env(suite="worlds", level=3)
    env.reset(options={"task": 0})
    *calls, end = env.solution()
    play(env, calls)
    while True:
        *_, terminated, truncated, info = env.step(calls[0])
        assert not terminated and info["progress"] == 1.0
        if truncated:
            break
    assert info["success"] == 0.0 and env.solution() == []
    assert play(env, [end])[0]["success"] == 0.0


@each_level
def test_play_without_a_plan_earns_nothing(make_env: MakeEnv, level: int) -> None:
    env = make_env(suite="worlds", level=level, split="test")
    solved = 0.0
    for task in range(200):
        env.reset(options={"task": task})
        assert verdict(env.fork(), "")[0] == verdict(env.fork(), "", give_up=True)[0] == 0.0
        env.action_space.seed(task)
        ended = False
        while not ended:
            *_, terminated, truncated, info = env.step(env.action_space.sample())
            ended = terminated or truncated
        solved += info["success"]
    assert solved / 200 < 0.02


def test_a_change_does_not_happen_twice(make_env: MakeEnv) -> None:
    env = make_env(suite="worlds", level=2, families="change")
    env.reset(options={"task": 3})
    *calls, end = env.solution()
    play(env, calls)
    observation, *_, info = env.step(calls[-1])
    assert info["tool_error"] == "rejected" and "already" in observation["messages"][-1].content
    assert info["progress"] == 1.0 and env.solution() == [end]
    (argument,) = calls[-1].arguments
    if (reading := f"get_{argument.removesuffix('_id')}") in env.task.tools:
        observation = env.step(ToolCall(reading, calls[-1].arguments))[0]
        assert "status" in json.loads(observation["messages"][-1].content)
    assert play(env, [end])[0]["success"] == 1.0


# ---------------------------------------------------------------- the answer is nowhere but in the world
@each_level
@pytest.mark.parametrize("split", ["all", "paraphrases", "domains"])
def test_the_answer_stands_nowhere(make_env: MakeEnv, level: int, split: str) -> None:
    env = make_env(suite="worlds", level=level, split=split)
    for task in range(0, len(env.suite), len(env.suite) // 150):
        observation, _ = env.reset(options={"task": task})
        answer = env.task.data.answer
        assert len(answer.text) >= 2 and answer.parts
        told = {*re.findall(r"\w[\w.-]*\w|\w", f"{env.task.instruction} {observation['tools']}".casefold()), *env.task.id.split("-")}
        assert not all(part.casefold() in told for part in answer.parts), env.task.instruction
        assert observation["messages"] == (("user", env.task.instruction),)


# ---------------------------------------------------------------- the same everywhere
FINGERPRINT = """
import hashlib
from steptool_env.tasks.worlds import LEVELS, SPLITS, Worlds
tasks = [Worlds(level, split)[number] for level in LEVELS for split in SPLITS for number in (0, 1, 2, 3, 9999)]
text = repr([(task.id, task.instruction, task.tools, task.max_steps, task.tags, task.data) for task in tasks])
fingerprint = hashlib.sha256(text.encode()).hexdigest()
"""


def test_tasks_do_not_depend_on_the_process() -> None:
    found = set()
    for seed in ("1", "2"):
        command = [sys.executable, "-c", FINGERPRINT + "print(fingerprint)"]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        found.add(subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=60, check=True).stdout.strip())
    here: dict[str, Any] = {}
    exec(FINGERPRINT, here)
    assert found == {here["fingerprint"]}


GOLDEN = {
    "field": ("a543a0215de63fdc", {"replies": "field"}, 0),
    "held out": ("69372e3b63566958", {"replies": "field", "split": "test"}, 0),
    "record": ("35c53a00677ed31e", {}, 0),
    "pretraining": ("21c6af7104c5c006", {"replies": "field", "depth": (1, 4), "families": "lookup", "size": 2_000_000}, 1_000_000),
}
"""What the embedded model was trained on: its tasks, tools and results must never change, or it has to be trained again."""


@pytest.mark.parametrize("name", GOLDEN)
def test_the_tasks_of_the_embedded_model_stay_what_they_are(make_env: MakeEnv, name: str) -> None:
    expected, options, first = GOLDEN[name]
    env = make_env(suite="worlds", **{"level": 2, "depth": (2, 4), "families": CHAINS, "domains": ("shop", "travel", "clinic"), **options})
    digest = hashlib.blake2b(digest_size=8)
    for task in range(first, first + (100 if first else 200)):
        observation, _ = env.reset(options={"task": task})
        shown = (env.task.id, env.task.instruction, env.task.tools, env.task.max_steps, dict(env.task.tags), observation["tools"])
        digest.update(repr(shown).encode())
        for call in env.solution():
            observation, *_ = env.step(call)
            digest.update(repr((call.name, dict(call.arguments), observation["messages"][-1].content)).encode())
    assert digest.hexdigest() == expected


def test_a_task_does_not_depend_on_the_others() -> None:
    suite = Worlds(level=4)
    forwards = [suite[number] for number in range(10)]
    assert [suite[number] for number in reversed(range(10))] == forwards[::-1]
    assert [Worlds(level=4, size=10, split="all")[number] for number in range(10)] == forwards
    assert pickle.loads(pickle.dumps(forwards)) == forwards


# ---------------------------------------------------------------- the collection
@pytest.mark.parametrize("split", ["train", "test", "all"])
def test_index_is_the_inverse(split: str) -> None:
    suite = Worlds(level=1, split=split, size=25)
    assert len(suite) == (50 if split == "all" else 25)
    tasks = list(suite)
    assert len(tasks) == len({task.id for task in tasks}) == len(suite)
    assert [suite.index(task.id) for task in tasks] == [*range(len(suite))]
    for outside in (-1, len(suite), 10**9):
        with pytest.raises(IndexError):
            suite[outside]
    other = {"train": "test", "test": "train", "all": "all"}[split]
    some = tasks[7].id
    unknown = ["", "7", "worlds", f"worlds-1-{other}-25", f"worlds-2-{split}-7", some + "\n", " " + some, "x" + some]
    unknown += [some[:-1] + number for number in ("", "07", "7²", "²", "+7", "-1", "7.0", "9" * 5000)]
    if split != "all":
        unknown.append(f"worlds-1-{other}-7")
    for task_id in unknown:
        with pytest.raises(KeyError):
            suite.index(task_id)


def test_an_index_is_an_integer() -> None:
    suite = Worlds(size=np.int64(5), level=np.int64(2))  # type: ignore[arg-type]
    assert suite[np.int64(3)] == suite[3] == Worlds(2)[3]  # type: ignore[call-overload]
    assert suite[True].id == "worlds-2-train-1"
    for wrong in (1.0, "1", None):
        with pytest.raises(TypeError):
            suite[wrong]  # type: ignore[index]


def test_a_slice_is_a_suite() -> None:
    suite = Worlds(level=2, split="all", size=20)
    part = suite[15:25:3]
    assert isinstance(part, Worlds) and len(part) == 4
    assert [*part] == [suite[number] for number in (15, 18, 21, 24)]
    assert [part.index(task.id) for task in part] == [0, 1, 2, 3] and part[1:3][1] == suite[21]
    for missing in (suite[16].id, suite[14].id):
        with pytest.raises(KeyError):
            part.index(missing)
    with pytest.raises(IndexError):
        part[4]
    assert [*pickle.loads(pickle.dumps(part))] == [*part] and len(suite) == 40 and len(suite[40:]) == 0


def test_the_splits_share_nothing() -> None:
    train, test, both = (Worlds(level=1, split=split, size=300) for split in ("train", "test", "all"))
    assert [*train, *test] == [*both]
    assert not {task.id for task in train} & {task.id for task in test}
    assert not {repr(task.data.entities) for task in train} & {repr(task.data.entities) for task in test}
    assert len({repr(task.data.entities) for task in both}) == 600


def test_a_suite_is_small_and_travels() -> None:
    suite = Worlds(level=5, split="all", size=10**9, families="change")
    assert len(suite) == 2 * 10**9
    packed = pickle.dumps(suite)
    assert len(packed) < 1500
    again = pickle.loads(packed)
    assert len(again) == len(suite) and again[10**9 + 7] == suite[10**9 + 7]


# ---------------------------------------------------------------- dials
def sample(count: int = 60, **options: Any) -> list[Task]:
    suite = make_suite("worlds", **options)
    return [suite[number] for number in range(count)]


@each_level
def test_levels(level: int) -> None:
    dials = LEVELS[level]
    tasks = sample(400, level=level)
    depths = {int(task.tags["depth"]) for task in tasks}
    assert depths == {*range(dials.depth[0], dials.depth[1] + 1)}
    assert {task.tags["family"] for task in tasks} >= {name for name in FAMILIES if FAMILIES[name].least <= dials.depth[1]}
    assert {task.tags["domain"] for task in tasks} == {*DOMAIN_NAMES} == {*DOMAINS} - {*UNSEEN}
    for task in tasks:
        domain, names = DOMAINS[task.data.domain], {*task.tools}
        assert len(task.data.entities) == dials.entities * len(domain.entities)
        assert len(task.tools) == len(names) > min(dials.tools, len(tools_of(task.data.domain)))
        assert task.tools[-1] == "finish" and ("wait" in names) == (dials.faults > 0)
        assert sum(name.startswith("get_archived") for name in names) <= dials.lookalikes
        assert len(task.data.faults) <= dials.faults
        assert {name.removeprefix("undo_") for name in names if name.startswith("undo_")} == {f"{one.verb}_{one.entity}" for one in domain.links} & names


def test_levels_grow() -> None:
    for low, high in itertools.pairwise(LEVELS.values()):
        assert low.depth[1] <= high.depth[1] and low.tools < high.tools and low.entities < high.entities and low.lookalikes <= high.lookalikes
    assert {*FAMILY_NAMES} == {*FAMILIES}


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("family", CHAINS)
@pytest.mark.parametrize("depth", range(1, 7))
def test_every_depth_in_every_domain(make_env: MakeEnv, domain: str, family: str, depth: int) -> None:
    options = {"depth": (depth, depth), "families": family, "domains": domain, "tools": 1, "entities": 2}
    if (family, depth) == ("change", 1):
        with pytest.raises(InvalidArgument, match="change takes at least 2 calls"):
            Worlds(**options)
        return
    env = make_env(suite="worlds", **options)
    for task in range(5):
        env.reset(options={"task": task})
        assert env.task.tags == {"domain": domain, "family": family, "depth": depth}
        assert len(env.task.tools) == depth + 1  # what the task needs is always on offer
        assert len(env.task.data.entities) == 2 * len(DOMAINS[domain].entities)
        assert read_and_solve(env)["success"] == 1.0


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_in_every_domain_that_fits(domain: str, family: str) -> None:
    suite = Worlds(level=3, depth=(FAMILIES[family].least, 5), families=family, domains=domain)
    if not FAMILIES[family].fits(DOMAINS[domain], suite.dials):
        assert family == "transfer"
        with pytest.raises(InvalidArgument, match=f"there is no task of transfer with depth .* in the domains {domain}"):
            suite[0]
        return
    depths = {suite[number].tags["depth"] for number in range(30)}
    assert {*range(FAMILIES[family].least, 5)} <= depths


def test_a_family_takes_its_fewest_calls() -> None:
    assert {task.tags["depth"] for task in sample(families="change", depth=(1, 2))} == {2}
    assert {task.tags["family"] for task in sample(depth=(1, 1))} == {"lookup", "arithmetic"}
    assert {task.tags["depth"] for task in sample(families=("change",), depth=(1, 4))} == {2, 3, 4}


def test_single_dials() -> None:
    assert {len(task.tools) for task in sample(tools=3, depth=(1, 2), families=CHAINS)} == {4}
    for task in sample(tools=100, domains=["clinic"], families=CHAINS):
        assert {*task.tools} == {*tools_of("clinic"), "finish"}
    for task in sample(20, tools=100, domains=["bank"], families=["move", "several"]):
        assert {*task.tools} == {*tools_of("bank", rich=True), "finish"}
    assert {len(task.data.entities) for task in sample(10, entities=90, domains="shop")} == {90 * 8}
    assert {task.tags["domain"] for task in sample(domains=("travel", "clinic"))} == {"travel", "clinic"}
    assert {task.tags["depth"] for task in sample(level=1, depth=[3, 4], families="lookup")} == {3, 4}
    assert {sum(name.startswith("get_archived") for name in task.tools) for task in sample(lookalikes=2, depth=(3, 3), families="lookup")} == {2}
    assert {len(task.data.answer.parts) for task in sample(families="several", depth=(6, 6), branching=6)} == {2, 3, 4, 5, 6}
    assert {len(task.data.faults) for task in sample(faults=2, tools=8, depth=(2, 4), families="lookup")} == {2}
    assert max(len(task.data.answer.parts) for task in sample(families="pages", depth=(3, 4), page=2, entities=9)) > 2


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({"level": 0}, InvalidArgument, r"level must be one of 1, 2, 3, 4, 5, got 0"),
        ({"level": "2"}, InvalidArgument, r"option 'level' of .*worlds.* must be an integer, got '2'"),
        ({"level": 2.0}, InvalidArgument, r"got 2\.0"),
        ({"level": True}, InvalidArgument, r"got True"),
        ({"level": None}, InvalidArgument, r"got None"),
        ({"level": [1]}, InvalidArgument, r"got \[1\]"),
        ({"split": "tset"}, UnknownName, r"unknown split 'tset'\. Did you mean 'test'\? Known: all, compositions, domains, paraphrases, test, train"),
        ({"split": "domains", "domains": list(DOMAINS)}, InvalidArgument, r"are all that there are"),
        ({"branching": 1}, InvalidArgument, r"branching must be an integer from 2 to 6, got 1"),
        ({"lookalikes": -1}, InvalidArgument, r"lookalikes must be an integer from 0 to 6, got -1"),
        ({"page": 0}, InvalidArgument, r"page must be an integer from 1 to 90, got 0"),
        ({"faults": 5}, InvalidArgument, r"faults must be an integer from 0 to 4, got 5"),
        ({"wording": "sen"}, UnknownName, r"unknown wording 'sen'\. Did you mean 'seen'\? Known: all, seen, unseen"),
        ({"split": None}, InvalidArgument, r"option 'split' of .* must be text, got None"),
        ({"split": ["train"]}, InvalidArgument, r"must be text, got \['train'\]"),
        ({"size": 0}, InvalidArgument, r"size must be an integer of at least 1, got 0"),
        ({"size": "10"}, InvalidArgument, r"got '10'"),
        ({"size": 2.5}, InvalidArgument, r"got 2\.5"),
        ({"size": True}, InvalidArgument, r"got True"),
        ({"depth": 3}, InvalidArgument, r"depth must be two integers \(fewest, most\) within 1 to 6, such as \(2, 4\), got 3"),
        ({"depth": (3,)}, InvalidArgument, r"got \(3,\)"),
        ({"depth": (1, 2, 3)}, InvalidArgument, r"got \(1, 2, 3\)"),
        ({"depth": (4, 2)}, InvalidArgument, r"got \(4, 2\)"),
        ({"depth": (0, 2)}, InvalidArgument, r"within 1 to 6"),
        ({"depth": (2, 7)}, InvalidArgument, r"within 1 to 6"),
        ({"depth": (1.0, 2.0)}, InvalidArgument, r"two integers"),
        ({"depth": (True, 2)}, InvalidArgument, r"two integers"),
        ({"depth": "24"}, InvalidArgument, r"got '24'"),
        ({"depth": {}}, InvalidArgument, r"got \{\}"),
        ({"tools": 0}, InvalidArgument, r"tools must be an integer of at least 1, got 0"),
        ({"tools": True}, InvalidArgument, r"got True"),
        ({"tools": "all"}, InvalidArgument, r"got 'all'"),
        ({"tools": np.array([1, 2])}, InvalidArgument, r"option 'tools' of .* must be an integer"),
        ({"entities": 1}, InvalidArgument, r"entities must be an integer from 2 to 90, got 1"),
        ({"entities": 91}, InvalidArgument, r"got 91"),
        ({"entities": 3.0}, InvalidArgument, r"got 3\.0"),
        ({"replies": "fields"}, UnknownName, r"unknown form of replies 'fields'\. Did you mean 'field'\? Known: field, record"),
        ({"families": "lokup"}, UnknownName, r"unknown family 'lokup'\. Did you mean 'lookup'\? Known: aggregate, arithmetic, change"),
        ({"families": ("lookup", "chang")}, UnknownName, r"Did you mean 'change'"),
        ({"families": ()}, InvalidArgument, r"families must be one or more of lookup, change, several, .*, got \(\)"),
        ({"families": 1}, InvalidArgument, r"got 1"),
        ({"families": [["lookup"]]}, UnknownName, r"unknown family \['lookup'\]"),
        ({"families": "change", "depth": (1, 1)}, InvalidArgument, r"change takes at least 2 calls.* got \(1, 1\)"),
        ({"families": ["condition", "compare"]}, InvalidArgument, r"takes at least 3 calls: the depth must reach 3, got \(1, 2\)"),
        ({"domains": "shops"}, UnknownName, r"unknown domain 'shops'\. Did you mean 'shop'\?"),
        ({"domains": []}, InvalidArgument, r"domains must be one or more of shop, travel, clinic, .*, got \[\]"),
        ({"domains": [None]}, UnknownName, r"unknown domain None"),
        ({"domains": [{}]}, UnknownName, r"unknown domain \{\}"),
        ({"deepth": (1, 2)}, UnknownName, r"Did you mean 'depth'"),
    ],
    ids=str,
)
def test_wrong_options(options: dict[str, Any], kind: type[StepToolError], says: str) -> None:
    with pytest.raises(kind, match=says):
        make_suite("worlds", **options)


# ---------------------------------------------------------------- state
def test_copies_of_a_world_are_independent(make_env: MakeEnv) -> None:
    env = make_env(suite="worlds", level=3, families="change", max_steps=50)
    env.reset(options={"task": 1})
    gold = env.solution()
    play(env, gold[:1])
    start, twin = env.snapshot(), env.fork()
    known: set[Fact] = {*world(env).known}
    copied, packed = copy.deepcopy(world(env)), pickle.loads(pickle.dumps(world(env)))
    assert copied.plan is world(env).plan  # what nobody changes is shared
    play(env, [*gold[1:-1], *harms(env)])
    assert world(env).harm and world(env).known > known
    for other in (copied, packed, world(twin)):
        assert (other.known, other.statuses, other.harm) == (known, {}, 0)
        assert other.progress == pytest.approx(start.progress)
        assert other.plan == env.task.data
    assert play(twin, gold[1:])[-1]["success"] == 1.0
    env.restore(pickle.loads(pickle.dumps(start)))
    assert env.solution() == gold[1:]
    assert play(env, gold[1:])[-1]["success"] == 1.0


def test_episodes_of_one_suite_share_nothing(make_env: MakeEnv) -> None:
    suite = Worlds(level=2)
    one, two = make_env(suite=suite), make_env(suite=suite)
    for env in (one, two):
        env.reset(options={"task": 5})
    gold = two.solution()
    play(one, one.solution())
    assert world(two).progress == 0.0 and two.solution() == gold
    assert suite[5] == Worlds(level=2)[5]


def test_what_the_tools_answer(make_env: MakeEnv) -> None:
    env = make_env(suite="worlds", level=5, max_steps=200, domains="shop", families=CHAINS, faults=0)
    env.reset(options={"task": 0})
    for key, record in world(env).plan.entities.items():
        for name in env.task.tools:
            kind = name.removeprefix("get_")
            entity = DOMAINS["shop"].entities.get(kind)
            if entity is None or name == kind:
                continue
            result = env.episode.toolkit.execute(ToolCall(name, {f"{kind}_id": key}))  # type: ignore[union-attr]
            if key.startswith(entity.prefix):
                assert json.loads(result.content) == record and result.error == ""
            else:
                assert result.error == "rejected" and f"there is no {kind} with the id '{key}'" in result.content


def test_a_suite_says_what_it_plays() -> None:
    assert Worlds(level=3).about() == "level 3, all 13 families, 8 of 10 domains, 2 to 5 calls, replies=record"
    narrow = Worlds(level=1, families="lookup", domains=["shop"], depth=(1, 1), faults=1, wording="all")
    assert narrow.about() == "level 1, family lookup (1 of 13), domain shop (1 of 10), 1 call, replies=record, faults=1, wording=all"
    assert narrow[:3].about() == narrow.about() and Faulty(narrow, 0.25).about() == f"{narrow.about()}, 25 % of calls fail"
