"""The families of ``worlds``: solutions are shortest, answers follow from what the tools say, paths are free."""

from __future__ import annotations

import copy
import json
import random
import re
from typing import Any

import pytest
from brute import _ID, calls, scalars, shortest

from steptool_env import ToolCall
from steptool_env.tasks.worlds import Worlds
from steptool_env.tasks.worlds.answers import Answer
from steptool_env.tasks.worlds.families import FAMILIES
from steptool_env.tasks.worlds.values import UNITS
from steptool_env.tasks.worlds.world import World

each_family = pytest.mark.parametrize("family", FAMILIES)


def small(family: str, **options: Any) -> Worlds:
    """Return a suite whose tasks a search can exhaust."""
    return Worlds(level=1, **{"families": family, "depth": (2, 3), "tools": 2, "entities": 3, "page": 2, "wording": "all", **options})


@each_family
@pytest.mark.parametrize(("replies", "faults"), [("record", 0), ("field", 0), ("record", 1)])
def test_no_search_finds_a_shorter_solution(family: str, replies: str, faults: int) -> None:
    suite = small(family, replies=replies, faults=faults)
    tried = 0
    for task in suite[:6]:
        world = World(task.data)
        if world.distance <= 3 + faults and tried < 2:
            tried += 1
            assert shortest(suite, task, world, world.distance) == world.distance, task.instruction
    assert tried


@each_family
def test_no_search_finds_a_shorter_solution_from_mid_episode(family: str) -> None:
    suite, rng = small(family), random.Random(family)
    for task in suite[20:23]:
        toolkit = suite.toolkit(task)
        known = frozenset(_ID.findall(task.instruction))
        for _ in range(4):
            saved = copy.deepcopy(toolkit.state)
            result = toolkit.execute(rng.choice([*calls(toolkit, toolkit.state, known)]))
            if toolkit.state.harm:
                toolkit.state = saved
            elif not result.error:
                known |= frozenset(scalars(json.loads(result.content)))
        if toolkit.state.distance <= 3:
            assert shortest(suite, task, toolkit.state, toolkit.state.distance, known) == toolkit.state.distance, task.instruction


def results(suite: Worlds, index: int) -> tuple[Any, str, list[tuple[ToolCall, Any]]]:
    """Play the solution; return the task, its answer and the calls with their results."""
    task = suite[index]
    toolkit = suite.toolkit(task)
    steps = [(step.call, json.loads(result.content) if not (result := toolkit.execute(step.call)).error else None) for step in task.data.ways[0]]
    return task, task.data.answer.text, steps


def test_a_sum_is_the_sum() -> None:
    for index in range(40):
        task, answer, steps = results(Worlds(level=3, families="aggregate", domains="shop"), index)
        listed = [key for _, result in steps for name, keys in result.items() if isinstance(keys, list) for key in keys]
        records = {call.arguments[next(iter(call.arguments))]: result for call, result in steps if "page" not in result}
        amounts = {key: next(value for value in records[key].values() if isinstance(value, int)) for key in listed}
        if "sum" in task.instruction or "Add up" in task.instruction:
            assert answer.split(", ")[-1] == str(sum(amounts.values()))
            assert not task.instruction.startswith("How many") or answer.split(", ")[0] == str(len(amounts))
        else:
            best = (max if "largest" in task.instruction else min)(amounts, key=amounts.__getitem__)
            assert answer in map(str, records[best].values())


def test_a_list_is_what_the_filters_leave() -> None:
    for family in ("filter", "pages"):
        suite = Worlds(level=3, families=family)
        for index in range(30):
            task, answer, steps = results(suite, index)
            listed = [key for _, result in steps for keys in result.values() if isinstance(keys, list) for key in keys]
            assert sorted(listed) == answer.split(", ")
            assert (sum("page" in result for _, result in steps) > 1) == (family == "pages")
            assert not {*listed} & {*_ID.findall(task.instruction)}


def test_a_comparison_has_one_winner() -> None:
    for index in range(40):
        task, answer, steps = results(Worlds(level=3, families="compare", domains="bank"), index)
        order, amount = re.search(r"(largest|smallest) (\w+)", task.instruction).groups()  # type: ignore[union-attr]
        rivals = [result for _, result in steps if isinstance(result.get(amount), int)]
        best = (max if order == "largest" else min)(rivals, key=lambda record: record[amount])
        assert sum(record[amount] == best[amount] for record in rivals) == 1
        assert answer in map(str, best.values())


def test_a_condition_goes_both_ways() -> None:
    ways = set()
    for index in range(40):
        task, answer, steps = results(Worlds(level=3, families="condition"), index)
        limit = int(re.search(r"above (\d+)", task.instruction)[1])  # type: ignore[index]
        amount = re.search(r"the (\w+) of .*? above|the (\w+) of .*?\. Is it above", task.instruction)
        assert amount is not None
        acts = bool(task.data.goals)
        values = [value for _, result in steps for name, value in result.items() if name == (amount[1] or amount[2])]
        assert any((value > limit) == acts for value in values)
        assert ("confirmation" in steps[-1][1]) == acts and answer in map(str, steps[-1][1].values())
        ways.add(acts)
    assert ways == {True, False}


def test_dates_and_units() -> None:
    kinds = set()
    for index in range(150):
        task, answer, steps = results(Worlds(level=2, families="arithmetic"), index)
        text = json.dumps([result for _, result in steps])
        if "days after" in task.instruction:
            kinds.add("later")
            assert re.fullmatch(r"\d{4}-\d\d-\d\d", answer) and answer not in text
        elif "How many days" in task.instruction or "differ" in task.instruction:
            kinds.add("between")
            assert int(answer) >= 10
        else:
            kinds.add("unit")
            unit = re.search(r" (?:in|to) (\w+)", task.instruction)[1]  # type: ignore[index]
            small, factor = next((name, factor) for name, (other, factor) in UNITS.items() if other == unit)
            assert f"{int(answer) // factor} {small}" in text
    assert kinds == {"later", "between", "unit"}


def test_what_cannot_be_done_is_declined_with_proof() -> None:
    suite = Worlds(level=2, families="decline")
    given_up = blocked = refused = 0
    for task in suite[:300]:
        answer = task.data.answer
        given_up += answer.give_up
        if not answer.give_up:
            continue
        key = answer.parts[0]
        assert key in task.data.entities and key not in task.instruction
        toolkit = suite.toolkit(task)
        for step in task.data.ways[0]:
            content = toolkit.execute(step.call).content
        assert toolkit.state.progress == 1.0
        if not task.data.statuses:
            assert "null" in content
            continue
        blocked += 1
        assert task.data.statuses[key] in content
        toolkit = suite.toolkit(task)  # whoever tries instead learns the same, and does no harm
        *chain, last = task.data.ways[0]
        for step in chain:
            toolkit.execute(step.call)
        for name in toolkit:
            if not name.startswith(("get_", "list_", "undo_", "finish")) and [*toolkit.parameters[name]["properties"]] == [*last.call.arguments]:
                result = toolkit.execute(ToolCall(name, last.call.arguments))
                refused += "cannot be" in result.content
                assert result.error == "rejected"
        assert toolkit.state.progress == 1.0 and not toolkit.state.harm
    assert refused >= blocked
    assert 0.5 < given_up / 300 < 0.8 and 0.3 < blocked / given_up < 0.7


def test_other_paths_count(make_env: Any) -> None:
    """Listing by one condition and reading the other one of every entry is longer, but gets there."""
    suite = Worlds(level=3, families="filter", tools=40, size=40)
    longer = 0
    for index, task in enumerate(suite):
        for way in task.data.ways[1:]:
            env = make_env(suite=suite, max_steps=200)
            env.reset(options={"task": index})
            gains = [env.step(step.call)[4]["progress"] for step in way]
            assert gains[-1] == 1.0 and gains == sorted(gains)
            assert [call.name for call in env.solution()] == ["finish"]
            longer += len(way) > len(task.data.ways[0])
    assert longer > 40


@pytest.mark.parametrize(
    ("answer", "said", "accepted"),
    [
        (Answer(("Eva",)), " eva\n", True),
        (Answer(("Eva",)), "Eva.", False),
        (Answer(("120000",)), "120000.0", True),
        (Answer(("120000",)), "120 000", False),
        (Answer(("12",)), "nan", False),
        (Answer(("12",)), "9" * 10_000, False),
        (Answer(("2020-01-02",)), "2020-01-02", True),
        (Answer(("Eva", "12")), "eva, 12", True),
        (Answer(("Eva", "12")), "eva and 12.0", True),
        (Answer(("Eva", "12")), '["Eva", 12]', True),
        (Answer(("Eva", "12")), "12, Eva", False),
        (Answer(("Eva", "12")), "Eva", False),
        (Answer(("A1", "B2"), ordered=False), "b2; a1", True),
        (Answer(("A1", "B2"), ordered=False), "B2\nA1", True),
        (Answer(("A1", "B2"), ordered=False), "A1, B2, C3", False),
        (Answer(("A1", "B2"), ordered=False), "A1, A1", False),
        (Answer(("A1",), ordered=False), '["A1"]', True),
        (Answer(("A1",), ordered=False), "[", False),
        (Answer(("A1",), ordered=False), "", False),
    ],
)
def test_answers(answer: Answer, said: str, accepted: bool) -> None:
    assert answer.accepts(said) is accepted
    assert answer.accepts(answer.text)
