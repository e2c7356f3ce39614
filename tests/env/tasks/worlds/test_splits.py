"""Splits of ``worlds``: each keeps from training exactly what it says."""

from __future__ import annotations

import re

import pytest

from steptool_env.errors import InvalidArgument
from steptool_env.tasks.worlds import LEVELS, SPLITS, Worlds
from steptool_env.tasks.worlds.domains import DOMAINS, UNSEEN
from steptool_env.types import Task


def tasks(split: str, **options: object) -> list[Task]:
    return [*Worlds(3, split, **options)[:300]]  # type: ignore[arg-type]


def frame(task: Task) -> str:
    """Return the words of a request without names and numbers."""
    return re.sub(r"[A-Z]+\d+|\d+", "_", task.instruction)


def test_entities_are_unseen_everywhere() -> None:
    worlds = [repr(task.data.entities) for split in SPLITS if split != "all" for task in tasks(split)[:50]]
    assert len({*worlds}) == len(worlds)


def test_paraphrases_are_unseen() -> None:
    options = {"families": "lookup", "depth": (1, 1), "domains": "shop"}
    seen, test, unseen = ({frame(task) for task in tasks(split, **options)} for split in ("train", "test", "paraphrases"))
    assert test <= seen and not unseen & seen and len(unseen) > 10
    assert {task.tags["domain"] for task in tasks("paraphrases")} == {task.tags["domain"] for task in tasks("train")}
    assert {frame(task) for task in tasks("train", **options, wording="all")} > seen


def test_compositions_are_deeper() -> None:
    for level, dials in LEVELS.items():
        depths = {int(task.tags["depth"]) for task in Worlds(level, "compositions")[:150]}
        assert depths == {dials.depth[1] + 1, dials.depth[1] + 2}
    assert {task.tags["depth"] for task in tasks("compositions", depth=(1, 2))} == {3, 4}


def test_domains_are_those_that_are_left_out() -> None:
    assert {task.tags["domain"] for task in tasks("domains")} == {*UNSEEN}
    assert not {task.tags["domain"] for split in ("train", "test", "paraphrases", "compositions") for task in tasks(split)} & {*UNSEEN}
    shown = {name for task in tasks("train") for name in task.tools}
    assert not shown & {name for task in tasks("domains") for name in task.tools} - {"finish"}
    assert {task.tags["domain"] for task in tasks("domains", domains=["shop", *UNSEEN])} == {*DOMAINS} - {"shop", *UNSEEN}
    with pytest.raises(InvalidArgument, match="are all that there are"):
        Worlds(split="domains", domains=tuple(DOMAINS))
