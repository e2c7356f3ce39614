"""RMS norms in fewer passes over memory: autograd keeps and reads a tensor for each of the half dozen operations that models write them as.

    r = (mean(x²) + ε)^-½,    y = w·r·x,    ∂x = r·w·∂y - x·r³·mean(w·∂y·x),    ∂w = Σ ∂y·r·x

Found by their class names, and by what they compute: a norm that computes anything else keeps its own code. Source: Zhang and Sennrich,
"Root Mean Square Layer Normalization" (arXiv 1910.07467).
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["fuse_norms"]


class _Normalized(torch.autograd.Function):
    """y for x (..., H), w (H,) and ε, in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        factor = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, factor)
        return (x * factor).mul_(weight)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, weight, factor = ctx.saved_tensors
        weighted = gradients[0] * weight
        inner = torch.linalg.vecdot(weighted, x).unsqueeze(-1).mul_(factor.pow(3)).div_(-x.shape[-1])
        its_weight = (gradients[0] * x).mul_(factor).flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        return weighted.mul_(factor).addcmul_(x, inner), its_weight, None


class _Fused(nn.Module):
    """In front of a class of norms."""

    rule: tuple[float, float]
    """ε, and what is added to the weight: some models keep it as a difference from 1."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        weight: Any = self.weight
        if args or kwargs or x.device.type != "cpu" or not x.dtype == weight.dtype == torch.float32:
            return super().forward(x, *args, **kwargs)  # type: ignore[no-any-return]
        epsilon, offset = self.rule
        return _Normalized.apply(x, weight + offset if offset else weight, epsilon)  # type: ignore[no-any-return, no-untyped-call]


@functools.cache
def _fused(kind: Any) -> Any:
    return type(kind.__name__, (_Fused, kind), {"__module__": kind.__module__, "__doc__": kind.__doc__})


def fuse_norms(model: nn.Module) -> None:
    """Let the RMS norms of a model compute in this way, on CPUs and in float32."""
    modules: list[Any] = list(model.modules())
    for module in modules:
        if type(module).__name__.endswith("RMSNorm") and not isinstance(module, _Fused) and (rule := _rule(module)) is not None:
            kind: Any = type(module)
            module.__class__, module.rule = _fused(kind), rule


@torch.no_grad()
def _rule(module: Any) -> tuple[float, float] | None:
    """Return what is ``_Fused.rule`` of a norm; None if it computes something else."""
    epsilon, weights = getattr(module, "variance_epsilon", getattr(module, "eps", None)), dict(module.named_parameters())
    weight = weights.get("weight")
    if len(weights) != 1 or weight is None or weight.dim() != 1 or not isinstance(epsilon, float) or weight.device.type != "cpu":
        return None
    # Small enough for ε to matter, and large.
    x = torch.randn(3, len(weight), generator=torch.Generator().manual_seed(0)) * torch.tensor([[epsilon**0.5], [1.0], [100.0]])
    try:
        expected = module(x.clone())
    except Exception:  # whatever a module of this name wants
        return None
    for offset in (0.0, 1.0):
        found = _Normalized.apply(x, weight.float() + offset, epsilon)  # type: ignore[no-untyped-call]
        if expected.shape == found.shape and torch.allclose(found, expected.float(), rtol=1e-5, atol=1e-6):
            return epsilon, offset
    return None
