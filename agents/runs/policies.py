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
from ..servers.client import ChatClient
from ..servers.weights import HandOver
from .checkpoint import list_checkpoints, load_checkpoint, unprefixed
from .folder import load_weights, read_config, read_warm_start

__all__ = ["load_policy", "played_policy", "training_model", "training_policy"]

SERVER_TIMEOUT = 600.0
"""Seconds for one answer of a server: an action behind a full queue, or the loading of a large model's weights."""


def training_model(config: Config) -> LanguageModel:
    """Return the model that is to learn, with the weights that it begins with; of several processes, each may hold a part of them.

    Args:
        config: Uses ``bfloat16, device, gradient_checkpointing, lora_rank, model, seed, sharded``.
    """
    lm = load_model(
        config.model,
        seed=config.seed,
        lora_rank=config.lora_rank,
        bfloat16=config.bfloat16,
        recompute=config.gradient_checkpointing,
        device=config.device,
    )
    if config.sharded and processes.world() > 1:
        lm.shard()
    lm.eval()
    return lm


def training_policy(lm: LanguageModel, config: Config, out: Path, *, seed: int) -> LMPolicy | ServedPolicy:
    """Return what plays in training: this process, or servers if the settings name some.

    Args:
        lm: The model that learns.
        config: Uses ``cache_budget, call_format, constrained, max_new_tokens, model, server_folder, server_model, servers,
            temperature, token_budget``.
        out: The run's folder; servers read the weights there, unless ``server_folder`` says where.
        seed: Of the sampling.

    Raises:
        NotSupported: Several training processes would share servers.
    """
    common: dict[str, Any] = {"temperature": config.temperature, "max_new_tokens": config.max_new_tokens, "seed": seed}
    if not config.servers:
        budgets = {"token_budget": config.token_budget, "cache_budget": config.cache_budget}
        return LMPolicy(lm, config.call_format, **common, **budgets, constrained=config.constrained)
    if processes.world() > 1:
        raise NotSupported("several training processes cannot share servers yet: start one process, or leave servers empty")
    clients = [ChatClient(endpoint.strip(), timeout=SERVER_TIMEOUT) for endpoint in config.servers.split(",")]
    handover = HandOver(clients, config.server_folder or out / "handover", config.server_model or config.model)
    return ServedPolicy(lm, handover, config.call_format, **common)


def played_policy(lm: LanguageModel, config: Config, *, temperature: float = 0.0, seed: int = 0) -> LMPolicy:
    """Return the policy that is evaluated.

    Args:
        lm: The model.
        config: Uses ``call_format, max_new_tokens, token_budget``.
        temperature: 0 always takes the most likely token.
        seed: Of the sampling.
    """
    common: dict[str, Any] = {"max_new_tokens": config.max_new_tokens, "token_budget": config.token_budget}
    return LMPolicy(lm, config.call_format, temperature=temperature, seed=seed, **common)


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
    lm = load_model(config.model, seed=config.seed, lora_rank=config.lora_rank, bfloat16=config.bfloat16, device=device)
    newest = not warm_start and list_checkpoints(run)
    load_weights(lm, unprefixed("model", load_checkpoint(run)[1]) if newest else read_warm_start(run), run)
    lm.eval()
    return played_policy(lm, config, temperature=temperature, seed=seed), config
