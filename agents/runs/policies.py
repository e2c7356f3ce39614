"""The policies of a run, made from its settings: for rollouts in training, for evaluation, and from the run's folder."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

from steptool_env.errors import InvalidArgument

from ..config import Config
from ..models.language_model import LanguageModel
from ..models.loading import load_model
from ..parallel import processes
from ..policies.local import LMPolicy
from ..policies.served import ServedPolicy
from ..policies.tokens import TokenPolicy
from ..servers.roster import Roster
from ..servers.weights import HandOver
from .folder import load_weights, read_config, trained_weights

__all__ = ["evaluated_policy", "load_policy", "training_model", "training_policy"]

SERVER_TIMEOUT = 600.0
"""Seconds to wait for one answer of a server, whose queue may be full, or which may be loading a large model's weights; and for a server
at all, if none takes the weights."""
SERVER_REQUESTS = 256
"""Most requests in flight to a server: it puts them into one batch."""


def training_model(config: Config) -> LanguageModel:
    """Return the model to be trained, with its initial weights; with several processes it may be sharded.

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
    """Return the policy for rollouts in training: in this process, or on servers if the settings name some.

    Args:
        lm: The model being trained.
        config: Uses the parts ``model`` and ``rollout``.
        out: The run's folder; servers read the weights there, unless ``server_folder`` names another folder.
        seed: Seed of the sampling.

    Raises:
        InvalidArgument: ``max_new_tokens`` is not less than the model's context.
    """
    model, rollout = config.model, config.rollout
    _check_length(lm, rollout.max_new_tokens)
    common: dict[str, Any] = {"temperature": rollout.temperature, "max_new_tokens": rollout.max_new_tokens, "seed": seed}
    common |= {"chat_template_options": model.chat_template_options, "max_reasoning_tokens": rollout.max_reasoning_tokens}
    if not rollout.servers:
        budgets: dict[str, Any] = {"token_budget": model.token_budget, "cache_budget": rollout.cache_budget}
        return LMPolicy(lm, model.call_format, **common, **budgets, constrained=rollout.constrained)
    roster = Roster(rollout.servers, timeout=SERVER_TIMEOUT, concurrency=SERVER_REQUESTS)
    place = os.path.realpath(out)  # two runs may share the folder that the servers see
    folder = Path(rollout.server_folder) / f"{out.name}-{zlib.crc32(place.encode()):08x}" if rollout.server_folder else out / "handover"
    handover = HandOver(roster, folder, rollout.server_model or model.name, patience=SERVER_TIMEOUT)
    return ServedPolicy(lm, handover, model.call_format, **common)


def _check_length(lm: LanguageModel, max_new_tokens: int) -> None:
    if max_new_tokens >= lm.context:
        raise InvalidArgument(
            f"max_new_tokens must leave room for a prompt in the model's context of {lm.context} tokens, got {max_new_tokens}; an action takes some tens"
        )


def evaluated_policy(lm: LanguageModel, config: Config, *, temperature: float = 0.0, seed: int = 0) -> LMPolicy:
    """Return the policy that is evaluated.

    Args:
        lm: The model.
        config: Uses the parts ``model`` and ``rollout``, but for the sampling.
        temperature: Sampling temperature; 0 is greedy.
        seed: Seed of the sampling.

    Raises:
        InvalidArgument: ``max_new_tokens`` is not less than the model's context.
    """
    _check_length(lm, config.rollout.max_new_tokens)
    common: dict[str, Any] = {"max_new_tokens": config.rollout.max_new_tokens, "token_budget": config.model.token_budget}
    common["cache_budget"] = config.rollout.cache_budget
    common["max_reasoning_tokens"] = config.rollout.max_reasoning_tokens
    common["chat_template_options"] = config.model.chat_template_options
    return LMPolicy(lm, config.model.call_format, temperature=temperature, seed=seed, **common)


def load_policy(
    run: str | os.PathLike[str], *, warm_start: bool = False, temperature: float = 0.0, seed: int = 0, device: str = "auto"
) -> tuple[LMPolicy, Config]:
    """Return the trained policy of a run, greedy unless told otherwise, with its settings.

    Args:
        run: The run's folder.
        warm_start: Return the policy before reinforcement learning instead.
        temperature: Sampling temperature; 0 is greedy.
        seed: Seed of the sampling.
        device: Device of the model, see ``load_model``; it may differ from the one of the training.

    Raises:
        CheckpointError: The folder holds no run, or its weights are missing or corrupt.
    """
    run = Path(run)
    config = read_config(run)
    model = config.model
    lm = load_model(model.name, seed=config.run.seed, lora_rank=model.lora_rank, bfloat16=model.bfloat16, device=device)
    load_weights(lm, trained_weights(run, warm_start=warm_start), run)
    return evaluated_policy(lm, config, temperature=temperature, seed=seed), config
