"""Suite ``agentdojo``: gold is accepted, the floor is small, nothing of the vendors' clients is loaded. All 97: benchmarks/suite_gold.py."""

from __future__ import annotations

import pickle
import sys

import pytest

from steptool_env import StepToolEnv, ToolCall, make_suite
from steptool_env.errors import MissingExtra, UnknownName
from steptool_env.tasks.agentdojo import CATEGORIES, AgentDojo
from steptool_env.testing import check_suite

try:
    SUITE = AgentDojo(split="all")
except MissingExtra as fault:
    pytest.skip(str(fault), allow_module_level=True)


def solve(env: StepToolEnv, task: str, answer: str | None = None, drop: bool = False) -> float:
    env.reset(options={"task": task})
    calls = env.solution()
    for call in [*([] if drop else calls[:-1]), ToolCall("finish", {"answer": answer}) if answer is not None else calls[-1]]:
        *_, info = env.step(call)
        assert info["tool_error"] == ""
    return float(info["success"])


@pytest.mark.parametrize("category", CATEGORIES)
def test_gold_is_accepted_and_nothing_is_not(category: str) -> None:
    env = StepToolEnv(AgentDojo(category, "all"), "final")
    sizes = {"workspace": 40, "travel": 20, "banking": 16, "slack": 21}
    assert len(env.suite) == sizes[category]
    for index in range(0, len(env.suite), 8):
        assert solve(env, env.suite[index].id) == 1.0
    assert solve(env, f"{category}_user_task_{1 if category != 'banking' else 3}", answer="", drop=True) == 0.0


def test_splits_ids_and_pickles() -> None:
    assert len(SUITE) == 97
    test, train = AgentDojo(split="test"), make_suite("agentdojo")
    assert len(test) + len(train) == 97
    assert SUITE[SUITE.index("slack_user_task_3")].tags["category"] == "slack"
    assert pickle.loads(pickle.dumps(test))[0].id == test[0].id
    with pytest.raises(UnknownName):
        AgentDojo("slak")


def test_an_episode_leaves_the_suite_alone_and_is_copied_exactly() -> None:
    env = StepToolEnv(SUITE, "final")
    env.reset(options={"task": "banking_user_task_3"})
    before = env.snapshot()
    calls = env.solution()
    for call in calls:
        *_, info = env.step(call)
    assert info["success"] == 1.0
    env.restore(pickle.loads(pickle.dumps(before)))
    assert env.solution() == calls
    *_, info = env.step(ToolCall("send_money", {"amount": "much"}))
    assert info["tool_error"] == "bad_arguments"
    assert solve(env, "banking_user_task_3") == 1.0


def test_no_client_of_a_vendor_is_loaded() -> None:
    assert not {"openai", "anthropic", "cohere", "langchain"} & set(sys.modules)
    assert "agentdojo.agent_pipeline" not in sys.modules


def test_it_keeps_the_contract() -> None:
    check_suite(SUITE, tasks=2)
