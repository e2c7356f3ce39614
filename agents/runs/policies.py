"""The policies of a run, by its settings: the one that plays in training, the one that is evaluated, the one that its folder keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from steptool_env.errors import NotSupported

from ..config import Config
from ..models.language_model import LanguageModel
from ..models.loading import load_model
from ..parallel import processes
from ..policies.local import LMPolicy
from ..policies.served import ServedPolicy
from ..policies.tokens import TokenPolicy
from ..servers.client import ChatClient
from ..servers.weights import HandOver
from .folder import load_weights, read_config, trained_weights

__all__ = ["evaluated_policy", "load_policy", "training_model", "training_policy"]

SERVER_TIMEOUT = 600.0
"""Seconds for one answer of a server: an action behind a full queue, or the loading of a large model's weights."""


def training_model(config: Config) -> LanguageModel:
    """Return the model that is to learn, with the weights that it begins with; of several processes, each may hold a part of them.

    Args:
        config: Uses the part ``model``, and ``run.seed``.
    """
    model = config.model
    lm = load_model(
        model.name,
        seed=config.run.seed,
        lora_rank=model.lora_rank,
        bfloat16=model.bfloat16,
        recompute=model.gradient_checkpointing,
        device=model.device,
    )
    if model.sharded and processes.world() > 1:
        lm.shard()
    return lm


def training_policy(lm: LanguageModel, config: Config, out: Path, *, seed: int) -> TokenPolicy:
    """Return what plays in training: this process, or servers if the settings name some.

    Args:
        lm: The model that learns.
        config: Uses the parts ``model`` and ``rollout``.
        out: The run's folder; servers read the weights there, unless ``server_folder`` says where.
        seed: Of the sampling.

    Raises:
        NotSupported: Several training processes would share servers.
    """
    model, rollout = config.model, config.rollout
    common: dict[str, Any] = {"temperature": rollout.temperature, "max_new_tokens": rollout.max_new_tokens, "seed": seed}
    if not rollout.servers:
        budgets = {"token_budget": model.token_budget, "cache_budget": rollout.cache_budget}
        return LMPolicy(lm, model.call_format, **common, **budgets, constrained=rollout.constrained)
    if processes.world() > 1:
        raise NotSupported("several training processes cannot share servers yet: start one process, or leave servers empty")
    clients = [ChatClient(endpoint.strip(), timeout=SERVER_TIMEOUT) for endpoint in rollout.servers.split(",")]
    handover = HandOver(clients, rollout.server_folder or out / "handover", rollout.server_model or model.name)
    return ServedPolicy(lm, handover, model.call_format, **common)


def evaluated_policy(lm: LanguageModel, config: Config, *, temperature: float = 0.0, seed: int = 0) -> LMPolicy:
    """Return the policy that is evaluated.

    Args:
        lm: The model.
        config: Uses ``model.call_format``, ``model.token_budget`` and ``rollout.max_new_tokens``.
        temperature: 0 always takes the most likely token.
        seed: Of the sampling.
    """
    common: dict[str, Any] = {"max_new_tokens": config.rollout.max_new_tokens, "token_budget": config.model.token_budget}
    return LMPolicy(lm, config.model.call_format, temperature=temperature, seed=seed, **common)


def load_policy(run: Path, *, warm_start: bool = False, temperature: float = 0.0, seed: int = 0, device: str = "auto") -> tuple[LMPolicy, Config]:
    """Return the trained policy of a run, greedy unless told otherwise, with its settings.

    Args:
        run: The run's folder.
        warm_start: The policy before reinforcement learning instead.
        temperature: 0 always takes the most likely token.
        seed: Of the sampling.
        device: Where the model is put, see ``load_model``; it need not be the one that it was trained on.

    Raises:
        CheckpointError: The folder holds no run, no weights yet, or broken ones.
    """
    config = read_config(run)
    model = config.model
    lm = load_model(model.name, seed=config.run.seed, lora_rank=model.lora_rank, bfloat16=model.bfloat16, device=device)
    load_weights(lm, trained_weights(run, warm_start=warm_start), run)
    return evaluated_policy(lm, config, temperature=temperature, seed=seed), config
