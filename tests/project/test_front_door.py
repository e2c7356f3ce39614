"""What users import: frozen, so that a name appears or goes on purpose; and imported only when it is asked for."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from project import ROOT

import steptool_agents
import steptool_env

AGENTS = """
ALGORITHMS Algorithm CREDIT ChatClient ChatCompletionsPolicy Config DemonstrationPolicy Generation HandOver LMPolicy LanguageModel Loop OraclePolicy
PaperJudge Passes Policy Profiler RandomPolicy Report Run ServedPolicy Step TokenPolicy Trajectory ablate assign_credit bootstrap credit evaluate export_run fit
held_out imitate improve in_hindsight load_algorithm load_model load_policy paired policy_optimizer read_annotations read_config read_conversations read_jsonl
read_metrics read_step_csv relabel rollout search summarize warm_up_critic write_conversations write_jsonl
""".split()
ENVIRONMENT = """
ERRORS FINISH FORMATS PARTIES REPAIRS SHAPERS SUITES Action Audit CallFormat Episode Malformed Message Observation Outcome Reading RewardShaper Snapshot
StepToolEnv StepToolError Task TaskSuite TextSpace Tool ToolCall ToolCallSpace ToolResult Toolkit Transition Unanswered as_chat audit check_tools make_format
make_shaper make_suite read tool whose
""".split()


@pytest.mark.parametrize(("package", "names"), [(steptool_agents, AGENTS), (steptool_env, ENVIRONMENT)], ids=["agents", "env"])
def test_the_names_are_these(package: object, names: list[str]) -> None:
    assert sorted(package.__all__) == sorted(names)  # type: ignore[attr-defined]
    for name in names:
        assert getattr(package, name) is getattr(package, name), name
    assert set(names) <= set(dir(package))


def test_type_checkers_see_the_same_names() -> None:
    text = (ROOT / "agents" / "__init__.py").read_text(encoding="utf-8")
    typed = set(re.findall(r"^    from \S+ import \w+ as (\w+)$", text, re.MULTILINE))
    assert typed == set(AGENTS)


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    program = """
import sys
import steptool_agents as agents
assert not {name for name in sys.modules if name.startswith("steptool_agents.")}
agents.Config, agents.OraclePolicy, agents.rollout, agents.evaluate, agents.read_jsonl, agents.credit.step_gae, agents.ALGORITHMS, agents.summarize
assert not {"torch", "transformers", "matplotlib", "httpx2"} & set(sys.modules)
agents.LMPolicy
assert "torch" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'LmPolicy'"):
        steptool_agents.LmPolicy  # noqa: B018
