"""Suite ``tau2``: official splits, gold and floors by the official evaluators. All tasks: benchmarks/suite_gold.py."""

from __future__ import annotations

import pickle
import re

import pytest
from project import BENCHMARKS

from steptool_env import StepToolEnv, ToolCall, make_suite
from steptool_env.errors import InvalidArgument, MissingExtra, UnknownName
from steptool_env.tasks.facts import FACTS
from steptool_env.tasks.tau2 import DOMAINS, FLOORS, Tau2
from steptool_env.testing import check_suite

try:
    SUITE = Tau2(split="all")
except MissingExtra as fault:
    pytest.skip(str(fault), allow_module_level=True)
DONE = ToolCall("finish", {"answer": ""})


def solve(env: StepToolEnv, task: int) -> float:
    env.reset(options={"task": task})
    calls = env.solution()
    for call in calls:
        *_, info = env.step(call)
        assert info["tool_error"] == ""
    return float(info["success"])


def test_official_splits() -> None:
    assert (len(SUITE), len(make_suite("tau2")), len(Tau2(split="test"))) == (114, 74, 40)
    full = {split: {task.id for task in Tau2(subset="full", split=split, policy=False)} for split in ("train", "test", "all")}
    assert (len(full["all"]), len(full["test"])) == (2285, 40)
    assert full["train"] == full["all"] - full["test"]
    assert pickle.loads(pickle.dumps(SUITE))[3].id == SUITE[3].id
    for wrong, error in [({"domain": "retail"}, UnknownName), ({"domain": "airline-full-information", "subset": "full"}, InvalidArgument)]:
        with pytest.raises(error):
            Tau2(**wrong)  # type: ignore[arg-type]


def test_telecom_gold_is_accepted_and_nothing_is_not() -> None:
    env = StepToolEnv(SUITE, "final")
    for task in range(0, 114, 16):
        assert solve(env, task) == 1.0
        env.reset(options={"task": task})
        *_, info = env.step(DONE)
        assert info["success"] == 0.0
        env.reset(options={"task": task})
        assert SUITE[task].data.ticket in env.task.instruction
        assert len(env.task.tools) == 44


def test_an_episode_is_copied_exactly_and_cut_off_it_scores_nothing() -> None:
    env = StepToolEnv(SUITE, "final")
    env.reset(options={"task": 5})
    before, calls = env.snapshot(), env.solution()
    for _ in range(2):
        for call in calls:
            *_, info = env.step(call)
        assert info["success"] == 1.0
        env.restore(before)
    *_, info = env.step(ToolCall("get_customer_by_phone", {"phone_number": "0"}))
    assert info["tool_error"] == "rejected"
    short = StepToolEnv(SUITE, "final", max_steps=len(calls) - 1)
    short.reset(options={"task": 5})
    for call in calls[:-1]:
        *_, truncated, info = short.step(call)
    assert truncated
    assert info["success"] == 0.0


def test_what_is_not_official_says_so() -> None:
    suite = Tau2("retail-full-information", split="test")
    assert len(suite) == 40
    assert str(suite[0].data.user_scenario) in suite[0].instruction
    assert suite[0].tags["domain"] == "retail-full-information"
    assert "calculate" in suite[0].tools


def test_it_keeps_the_contract() -> None:
    check_suite(SUITE, tasks=2)


def test_the_floors_that_are_told_are_those_that_were_measured() -> None:
    """In the table of benchmarks/suite_gold.py, and in ``steptool suites``."""
    table = (BENCHMARKS / "results" / "suite_gold.md").read_text(encoding="utf-8")
    for domain in DOMAINS:
        found = re.search(rf"^\| tau2 {domain}[^|]*\| (\d+) \| (\d+) \| (\d+) \|", table, re.MULTILINE)
        assert found is not None
        tasks, gold, nothing = map(int, found.groups())
        assert (nothing, tasks) == FLOORS[domain]
        assert gold == tasks
        assert f"{domain.partition('-')[0]} {nothing} of {tasks}" in FACTS["tau2"][1]
