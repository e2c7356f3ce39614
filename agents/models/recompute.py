"""Gradient checkpointing: which activations of a layer are kept for the backward pass, and which are recomputed.

- ``False``: all are kept. Most memory, no extra time.
- ``"selective"``: the results of the large matrix products and of fused attention are kept; what costs little (norms,
  activation functions, rotary embeddings, sums, the second factor of an adapter) is recomputed.
- ``True``: one state per layer is kept, the whole layer is recomputed. Least memory, a third to a half more time.

The gradient is the same in all three.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from steptool_env.errors import InvalidArgument, NotSupported

__all__ = ["RECOMPUTE", "recompute"]

RECOMPUTE = (False, True, "selective")
"""What ``recompute`` takes."""

INNER = 64
"""A matrix product is kept if each number in it is a sum of more than so many: below that, as with an adapter's rank, it is cheap."""

_FUSED = ("_scaled_dot_product", "_flash_attention", "_efficient_attention", "_cudnn_attention")
"""How the names of fused attention operators begin, on CPUs and GPUs."""


def recompute(model: PreTrainedModel, what: bool | str) -> list[nn.Module]:
    """Let a model's layers recompute activations, and return these layers; they do so while they are in training mode.

    Args:
        model: A ``transformers`` model, with or without adapters in its layers.
        what: One of ``RECOMPUTE``.

    Raises:
        InvalidArgument: ``what`` has another value.
        NotSupported: The architecture has no gradient checkpointing.
    """
    if what not in RECOMPUTE:
        raise InvalidArgument(f"gradient checkpointing must be one of {', '.join(map(repr, RECOMPUTE))}, got {what!r}")
    if not what:
        return []
    if not model.supports_gradient_checkpointing:
        raise NotSupported(f"{model.config.model_type}: its layers cannot recompute activations; set gradient_checkpointing=false")
    # transformers 5.23 has a new name for it.
    enable: Any = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False} | ({"context_fn": partial(create_selective_checkpoint_contexts, _policy)} if what == "selective" else {}))
    layers: list[Any] = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    for layer in layers:
        layer._gradient_checkpointing_func = partial(_in_mode, layer, layer._gradient_checkpointing_func)
    return layers


def _in_mode(layer: nn.Module, checkpoint: Any, forward: Any, *args: Any) -> Any:
    """Checkpoint a layer, which must be in training mode for it, but run it in the mode of its parts: some layers apply dropout themselves."""
    mode = any(part.training for part in layer.children() if not isinstance(part, GradientCheckpointingLayer))

    def run(*inputs: Any) -> Any:
        before, layer.training = layer.training, mode
        try:
            return forward(*inputs)
        finally:
            layer.training = before

    return checkpoint(run, *args)


def _policy(context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    """Return whether the result of an operator is kept."""
    name = operator.overloadpacket.__name__
    if name in ("mm", "addmm"):
        inner = args[0 if name == "mm" else 1].shape[1]
        return CheckpointPolicy.MUST_SAVE if inner > INNER else CheckpointPolicy.PREFER_RECOMPUTE
    if (operator.namespace == "aten" and name.startswith(_FUSED)) or (operator.namespace, name) == ("steptool", "tree_attention"):
        return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE
