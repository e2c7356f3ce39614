"""A run says what it plays, and ``docs/worlds.md`` says the same of a run without options."""

from __future__ import annotations

import pytest
from project import ROOT
from toy import Counting

from steptool_agents.config import Config
from steptool_agents.runs.plays import check_demonstrations, shared_tasks, what_it_plays
from steptool_env import make_suite
from steptool_env.errors import NotSupported


def said(config: Config) -> str:
    task = config.task
    train, test = (make_suite(task.suite, **{**task.suite_options, "split": split}) for split in ("train", "test"))
    return what_it_plays(config, train, test)


def test_a_run_without_options() -> None:
    line = said(Config())
    about = "level 2, families lookup, change (2 of 13), domains shop, travel, clinic (3 of 10), 2 to 4 calls, replies=field"
    rest = "10,000 tasks; 500 demonstrations first (depth=[2, 2]); evaluated on 200 of 10,000 held-out tasks"
    assert line == f"plays worlds, {about}: {rest}"
    assert about in (ROOT / "docs" / "worlds.md").read_text(encoding="utf-8")


def test_other_runs() -> None:
    line = said(Config.of(suite_options={"level": 3, "size": 50}, demos=0))
    assert line == "plays worlds, level 3, all 13 families, 8 of 10 domains, 2 to 5 calls, replies=record: 50 tasks; evaluated on 50 of 50 held-out tasks"
    line = said(Config.of(suite="jsonl", suite_options={}, demo_options={}, max_steps=4))
    assert line == "plays jsonl: 9 tasks; 500 demonstrations first; at most 4 calls each; evaluated on 3 of 3 held-out tasks"


def test_nothing_to_demonstrate_is_said_before_a_model_is_loaded() -> None:
    class Unsolvable(Counting):
        has_solution = False

    with pytest.raises(NotSupported, match=r"the 500 demonstrations .* give it a method solution\(self, task, episode\), or begin .* \(demos=0\)"):
        check_demonstrations(lambda split: Unsolvable(), Config.of(suite="mine.py", suite_options={}, demo_options={}))
    check_demonstrations(lambda split: Unsolvable(), Config.of(suite="mine.py", suite_options={}, demo_options={}, demos=0))


def test_held_out_tasks_that_are_trained_on_are_said() -> None:
    assert shared_tasks(make_suite("jsonl", split="train"), make_suite("jsonl", split="test")) == ""
    said = shared_tasks(Counting(size=9), Counting(size=4))
    assert said.startswith("4 tasks of 4 held-out ones are trained on, too (count-3, count-4, count-5 …)")
