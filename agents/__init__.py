"""Agents for StepTool: language-model policies, step-grained policy optimization, evaluation, the ``steptool`` command.

What users import comes from here. It is imported when it is asked for, so that ``import steptool_agents`` loads neither torch nor anything
else that is slow:

    >>> from steptool_agents import Config, OraclePolicy, evaluate
    >>> Config.of(lr=1e-4).learning.lr
    0.0001
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import credit as credit
    from .algorithms import ALGORITHMS as ALGORITHMS
    from .algorithms import Algorithm as Algorithm
    from .algorithms import load_algorithm as load_algorithm
    from .config import Config as Config
    from .credit import CREDIT as CREDIT
    from .experiments.ablation import ablate as ablate
    from .learning.advantages import assign_credit as assign_credit
    from .learning.critic import warm_up_critic as warm_up_critic
    from .learning.imitation import fit as fit
    from .learning.imitation import imitate as imitate
    from .learning.optimizer import policy_optimizer as policy_optimizer
    from .learning.passes import Passes as Passes
    from .learning.policy_gradient import improve as improve
    from .models.language_model import LanguageModel as LanguageModel
    from .models.loading import load_model as load_model
    from .parallel.profiling import Profiler as Profiler
    from .policies.base import OraclePolicy as OraclePolicy
    from .policies.base import Policy as Policy
    from .policies.base import RandomPolicy as RandomPolicy
    from .policies.chat_completions import ChatCompletionsPolicy as ChatCompletionsPolicy
    from .policies.demonstrator import DemonstrationPolicy as DemonstrationPolicy
    from .policies.local import LMPolicy as LMPolicy
    from .policies.served import ServedPolicy as ServedPolicy
    from .policies.tokens import TokenPolicy as TokenPolicy
    from .rollouts.collect import rollout as rollout
    from .rollouts.evaluate import Report as Report
    from .rollouts.evaluate import evaluate as evaluate
    from .rollouts.evaluate import held_out as held_out
    from .rollouts.evaluate import summarize as summarize
    from .rollouts.search import search as search
    from .rollouts.statistics import bootstrap as bootstrap
    from .rollouts.statistics import paired as paired
    from .runs.export import export_run as export_run
    from .runs.folder import read_config as read_config
    from .runs.loop import Loop as Loop
    from .runs.policies import load_policy as load_policy
    from .runs.run import Run as Run
    from .runs.trackers import read_metrics as read_metrics
    from .servers.client import ChatClient as ChatClient
    from .servers.judge import PaperJudge as PaperJudge
    from .servers.weights import HandOver as HandOver
    from .trajectory import Generation as Generation
    from .trajectory import Step as Step
    from .trajectory import Trajectory as Trajectory
    from .trajectory import in_hindsight as in_hindsight
    from .trajectory import read_jsonl as read_jsonl
    from .trajectory import relabel as relabel
    from .trajectory import write_jsonl as write_jsonl
    from .trajectory.conversations import read_conversations as read_conversations
    from .trajectory.conversations import write_conversations as write_conversations
    from .trajectory.released import read_annotations as read_annotations
    from .trajectory.released import read_step_csv as read_step_csv

_PLACES = {
    "ALGORITHMS": "algorithms",
    "CREDIT": "credit",
    "Algorithm": "algorithms",
    "ChatClient": "servers.client",
    "ChatCompletionsPolicy": "policies.chat_completions",
    "Config": "config",
    "DemonstrationPolicy": "policies.demonstrator",
    "Generation": "trajectory",
    "HandOver": "servers.weights",
    "LMPolicy": "policies.local",
    "LanguageModel": "models.language_model",
    "Loop": "runs.loop",
    "OraclePolicy": "policies.base",
    "PaperJudge": "servers.judge",
    "Passes": "learning.passes",
    "Policy": "policies.base",
    "Profiler": "parallel.profiling",
    "RandomPolicy": "policies.base",
    "Report": "rollouts.evaluate",
    "Run": "runs.run",
    "ServedPolicy": "policies.served",
    "Step": "trajectory",
    "TokenPolicy": "policies.tokens",
    "Trajectory": "trajectory",
    "ablate": "experiments.ablation",
    "assign_credit": "learning.advantages",
    "bootstrap": "rollouts.statistics",
    "evaluate": "rollouts.evaluate",
    "export_run": "runs.export",
    "fit": "learning.imitation",
    "held_out": "rollouts.evaluate",
    "imitate": "learning.imitation",
    "improve": "learning.policy_gradient",
    "in_hindsight": "trajectory",
    "load_algorithm": "algorithms",
    "load_model": "models.loading",
    "load_policy": "runs.policies",
    "paired": "rollouts.statistics",
    "policy_optimizer": "learning.optimizer",
    "read_annotations": "trajectory.released",
    "read_config": "runs.folder",
    "read_conversations": "trajectory.conversations",
    "read_jsonl": "trajectory",
    "read_metrics": "runs.trackers",
    "read_step_csv": "trajectory.released",
    "relabel": "trajectory",
    "rollout": "rollouts.collect",
    "search": "rollouts.search",
    "summarize": "rollouts.evaluate",
    "warm_up_critic": "learning.critic",
    "write_conversations": "trajectory.conversations",
    "write_jsonl": "trajectory",
}
"""Name -> the module within the package that has it."""

__all__ = [*_PLACES, "credit"]  # strings


def __getattr__(name: str) -> Any:
    if name == "credit":
        return importlib.import_module(".credit", __name__)
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        found = getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
    except ImportError as fault:
        from steptool_env.errors import missing_extra

        raise missing_extra(f"steptool_agents.{name}", fault) from fault
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
