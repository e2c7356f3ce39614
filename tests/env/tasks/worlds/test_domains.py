"""The domains of ``worlds``: checked when they are made, short, and each with tools of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from steptool_env import ToolCall
from steptool_env.env import StepToolEnv
from steptool_env.errors import InvalidArgument
from steptool_env.tasks.worlds import Worlds, domains
from steptool_env.tasks.worlds.domain import Change, Domain, Entity, Link, Transfer
from steptool_env.tasks.worlds.domains import DOMAINS, UNSEEN
from steptool_env.tasks.worlds.tools import tools_of

THING = Entity("T", {"code": "code"}, {"next": "other"}, "a thing")
OTHER = Entity("O", {"name": "name"}, {}, "another thing")
LOSE = Change("other", "lose", "lost")


@pytest.mark.parametrize(
    ("entities", "actions", "says"),
    [
        ({}, {}, "needs an entity type"),
        ({"thing": THING}, {}, r"relation thing\.next leads to 'other', which is no entity type"),
        ({"thing": THING, "other": Entity("T", {"a": "name"}, {})}, {}, "the id prefix of other, 'T', begins with that of thing, 'T'"),
        ({"thing": THING, "other": Entity("TO", {"a": "name"}, {})}, {}, "the id prefix of other, 'TO', begins with that of thing, 'T'"),
        ({"one": Entity("", {"a": "name"}, {})}, {}, "prefix of one must be letters, got ''"),
        ({"one": Entity("A1", {"a": "name"}, {})}, {}, "must be letters, got 'A1'"),
        ({"one": Entity("A", {"a": "colour"}, {})}, {}, r"attribute one\.a has kind 'colour'; kinds are name, code, amount"),
        ({"one": Entity("A", {"a": "name"}, {}, "", {"b": "pounds"})}, {}, r"detail one\.b has kind 'pounds'; kinds are date, kg"),
        ({"one": Entity("A", {}, {})}, {}, "one needs an attribute"),
        ({"one": Entity("A", {"a": "name"}, {"a": "one"})}, {}, r"one\.a would stand twice"),
        ({"one": Entity("A", {"a": "name"}, {}, "", {"a": "date"})}, {}, r"one\.a would stand twice"),
        ({"one": Entity("A", {"status": "name"}, {})}, {}, r"one\.status would stand twice"),
        ({"other": OTHER}, {"changes": (Change("thing", "lose", "lost"),)}, "change 'lose' acts on 'thing', which is no entity type"),
        ({"other": OTHER}, {"changes": (LOSE, Change("other", "lose", "gone"))}, "two of its tools would be called 'lose_other'"),
        ({"other": OTHER}, {"changes": (Change("other", "get", "got"),)}, "two of its tools would be called 'get_other'"),
        ({"other": OTHER}, {"changes": (Change("other", "find", "found", after="lost"),)}, "'find' comes after something, so it belongs into procedures"),
        ({"other": OTHER}, {"procedures": (Change("other", "find", "found", after="lost"),)}, "'find' comes after 'lost', which no change of other leads to"),
        ({"other": OTHER}, {"links": (Link("other", "move", "place"),)}, r"link 'move' changes other\.place, which is no relation"),
        ({"other": OTHER}, {"transfers": (Transfer("other", "name", "money"),)}, r"transfer of money needs an amount, other\.name is none"),
    ],
)
def test_a_domain_is_checked(entities: dict[str, Entity], actions: dict[str, tuple[Change, ...]], says: str) -> None:
    with pytest.raises(InvalidArgument, match=f"domain 'mine': .*{says}"):
        Domain("mine", entities, **actions)  # type: ignore[arg-type]


def test_a_new_domain_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    entities = {"thing": Entity("T", {"code": "code", "size": "amount"}, {"next": "other"}, "a thing", {"state": "new|old"}), "other": OTHER}
    monkeypatch.setitem(DOMAINS, "mine", Domain("mine", entities, (LOSE,)))
    env = StepToolEnv(Worlds(domains="mine", depth=(1, 4)))
    families = set()
    for task in range(60):
        env.reset(options={"task": task})
        families.add(env.task.tags["family"])
        for call in env.solution():
            *_, info = env.step(call)
        assert info["success"] == 1.0
    assert families >= {"lookup", "change", "several", "pages", "aggregate"}
    assert not families & {"move", "procedure", "transfer"}
    deep = Worlds(domains="mine", depth=(3, 3), families="lookup")
    with pytest.raises(InvalidArgument, match="domain 'mine' has no lookup of 3 to 3 calls"):
        deep[0]
    with pytest.raises(InvalidArgument, match=r"there is no task of move with depth .* in the domains mine"):
        Worlds(domains="mine", depth=(3, 3), families="move")[0]


def test_domains_are_short_files() -> None:
    files = [path for path in Path(domains.__file__).parent.glob("*.py") if path.name != "__init__.py"]
    assert {path.stem for path in files} == {*DOMAINS}
    assert len(DOMAINS) - len(UNSEEN) >= 8 and {*UNSEEN} < {*DOMAINS}
    for path in files:
        assert len(path.read_text(encoding="utf-8").splitlines()) < 80
    for name, domain in DOMAINS.items():
        assert domain.name == name and domain.changes and domain.procedures and domain.links
        assert all(tool.description.endswith(".") for tool in tools_of(name, rich=True).values())


def test_no_tool_of_an_unseen_domain_is_seen_elsewhere() -> None:
    seen = {name for domain in DOMAINS for name in tools_of(domain, rich=True) if domain not in UNSEEN}
    for domain in UNSEEN:
        assert not seen & {*tools_of(domain, rich=True)}


def test_links_work_once_and_can_be_undone() -> None:
    suite = Worlds(level=2, families="move", domains="files")
    task = next(task for task in suite if task.data.goals[0][1] == "move_file")
    _, tool, key, end = task.data.goals[0]
    other = next(one for one in task.data.entities if one.startswith("FO") and one not in (end, task.data.entities[key]["folder"]))
    toolkit = suite.toolkit(task)

    def call(name: str, **arguments: str) -> str:
        return toolkit.execute(ToolCall(name, arguments)).content

    assert "has not been changed" in call("undo_move_file", file_id=key)
    assert "no file with the id 'FO99'" in call(tool, file_id="FO99", new_folder=end)
    assert "no folder with the id 'X'" in call(tool, file_id=key, new_folder="X")
    assert "already" in call(tool, file_id=key, new_folder=task.data.entities[key]["folder"])
    assert toolkit.state.distance == toolkit.state.start
    call(tool, file_id=key, new_folder=other)
    assert toolkit.state.distance == toolkit.state.start + 1 and not toolkit.state.done and toolkit.state.astray == [(tool, key)]
    assert "undo_move_file takes it back" in call(tool, file_id=key, new_folder=end)
    call("undo_move_file", file_id=key)
    assert toolkit.state.distance == toolkit.state.start
    assert task.data.answer.text in call(tool, file_id=key, new_folder=end)
    assert toolkit.state.done and toolkit.state.distance == toolkit.state.start - 1
    call("undo_move_file", file_id=key)
    assert not toolkit.state.done and toolkit.state.distance == toolkit.state.start


def test_a_transfer_needs_enough_and_happens_once() -> None:
    suite = Worlds(level=3, families="transfer", domains="bank")
    task = suite[0]
    _, tool, giver, taker, amount = task.data.goals[0]
    toolkit = suite.toolkit(task)
    balance = task.data.entities[giver]["balance"]
    ask = {"from_account": giver, "to_account": taker}
    assert "is only" in toolkit.execute(ToolCall(tool, {**ask, "amount": balance + 1})).content
    assert "the same" in toolkit.execute(ToolCall(tool, {**ask, "to_account": giver, "amount": 1})).content
    assert "no account" in toolkit.execute(ToolCall(tool, {**ask, "to_account": "ZZ", "amount": 1})).content
    assert toolkit.execute(ToolCall(tool, {**ask, "amount": 0})).error == "bad_arguments"
    assert toolkit.state.harm == 0
    assert task.data.answer.text in toolkit.execute(ToolCall(tool, {**ask, "amount": amount})).content
    assert toolkit.state.done and not toolkit.state.harm
    if "get_account" in toolkit:
        assert f'"balance": {balance - amount}' in toolkit.execute(ToolCall("get_account", {"account_id": giver})).content
    toolkit.execute(ToolCall(tool, {**ask, "amount": 1}))
    assert toolkit.state.harm == 1
