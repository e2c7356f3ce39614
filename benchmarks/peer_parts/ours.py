"""Updates of GRPO by this package: what a run of ``--algo grpo`` does between two checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import Meter

from steptool_agents import Config, LMPolicy, Passes, improve, in_hindsight, load_model, policy_optimizer, rollout
from steptool_agents.learning.advantages import assign_credit
from steptool_agents.learning.batches import action_tokens, length
from steptool_env import StepToolEnv, make_suite

from .plan import Plan

__all__ = ["updates"]


def updates(plan: Plan, folder: Path, *, recompute: bool) -> Iterator[dict[str, Any]]:
    """Load a model, then yield the figures of one update after the other; the first yield, before any update, is empty.

    Args:
        plan: What is played and learned.
        folder: The model's.
        recompute: Gradient checkpointing.
    """
    torch.set_num_threads(plan.threads)
    lm = load_model(str(folder), lora_rank=plan.rank, bfloat16=plan.dtype == "bfloat16", recompute=recompute, device="cpu")
    policy = LMPolicy(lm, max_new_tokens=plan.new_tokens, token_budget=plan.budget)
    passes, optimizer = Passes(lm, token_budget=plan.budget), policy_optimizer(lm, plan.lr)
    learning = Config.of(epochs=1, minibatches=1, negative=1.0, kl=0.0, entropy=0.0, value_passes=0).learning
    suite, rng = make_suite("worlds", split="train", **plan.suite), np.random.default_rng(0)
    envs = [StepToolEnv(suite, max_steps=plan.max_steps) for _ in range(plan.groups * plan.group)]
    meter = Meter()
    lm.model.get_input_embeddings().register_forward_hook(lambda module, given, embedded: meter.count(given[0].numel()))
    yield {"loaded_mb": meter.loaded_mb}
    for update in range(plan.updates):
        meter.enter("generate")
        policy.forget()
        played = rollout(policy, envs, [task for task in plan.tasks(update) for _ in range(plan.group)])
        episodes = in_hindsight(played, envs[0].shaper)
        meter.enter("learn")
        measured = improve(passes, optimizer, assign_credit(episodes, 1.0, 1.0, "grpo"), learning, rng, {})
        phases = meter.take()
        yield {
            "phases": phases,
            "episodes": len(episodes),
            "tokens": sum(map(length, episodes)),
            "written": sum(map(action_tokens, episodes)),
            "turns": sum(len(one.steps) for one in episodes),
            "solved": sum(one.success for one in episodes),
            "reward": sum(sum(one.rewards) for one in episodes) / len(episodes),
            "grad_norm": measured["grad_norm"],
        }
