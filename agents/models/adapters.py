"""Adapters that learn: the product with a frozen matrix and its low-rank adapter, without the passes over memory that ``peft`` takes for it.

    y = x·Wᵀ + b + s·(x·Aᵀ)·Bᵀ

``peft`` makes the adapter's part, scales it, and adds it to the rest: each a tensor of the size of y, and so again in the backward pass.
Here the matrix product that makes the part adds it, too:

    v = s·∂y·B,    ∂x = ∂y·W + v·A,    ∂A = vᵀ·x,    ∂B = ((s·x·Aᵀ)ᵀ·∂y)ᵀ

The order of the last product matters: a matrix of a few rows times a large one takes a fifth of the time of the same with the large one
first, which is what autograd computes. What ``peft`` does besides, such as several adapters at once or dropout, it still does itself.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners import lora
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from .products import PLAIN, product

__all__ = ["AdaptedLinear", "adapt"]


class AdaptedLinear(lora.Linear):
    """``peft``'s linear module with adapters, which becomes one of this class by assignment: they hold the same."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the product (..., out) for (..., in)."""
        name = None if args or kwargs else self._only_adapter(x)
        if name is None:
            return super().forward(x, *args, **kwargs)
        base, down, up = self.base_layer, self.lora_A[name].weight, self.lora_B[name].weight
        # Flat on both sides: what a function returns may be changed in place, but not if it is a view that the function made.
        flat = _Adapted.apply(x.reshape(-1, x.shape[-1]), base.weight, base.bias, down, up, self.scaling[name])  # type: ignore[no-untyped-call]
        return flat.view(*x.shape[:-1], flat.shape[-1])  # type: ignore[no-any-return]

    def _only_adapter(self, x: Tensor) -> str | None:
        """Return the name of the adapter in use, if there is one, it is a product of two matrices and nothing more, and the rest is frozen."""
        names = [name for name in self.active_adapters if name in self.lora_A]
        if len(names) != 1 or self.disable_adapters or self.merged:
            return None
        (name,) = names
        base, dropout = self.base_layer, self.lora_dropout[name]
        if name in self.lora_variant or self.lora_B[name].bias is not None or type(base) not in PLAIN:
            return None
        if (dropout.training and not isinstance(dropout, nn.Identity)) or any(one.requires_grad for one in base.parameters()):
            return None
        alike = x.dtype == base.weight.dtype == self.lora_A[name].weight.dtype
        return name if alike or torch.is_autocast_enabled(x.device.type) else None


class _Adapted(torch.autograd.Function):
    """As above, for x (n, in), W (out, in), b (out,) or None, A (r, in), B (out, r), and s."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float) -> Tensor:
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        ctx.dtypes, ctx.scale = (x.dtype, down.dtype, up.dtype), scale
        x, weight, down, up = (one.to(dtype) for one in (x, weight, down, up))
        inner = product(x, down)
        out = product(x, weight, bias)
        ctx.save_for_backward(x, weight, down, up, inner)
        # Selective gradient checkpointing keeps the products that it sees: those must stay as they are.
        return (torch.addmm if is_in_torch_dispatch_mode() else torch.Tensor.addmm_)(out, inner, up.t(), alpha=scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, down, up, inner = ctx.saved_tensors
        of_x, of_down, of_up = ctx.dtypes
        (gradient,) = gradients
        change = product(gradient, up.t()).mul_(ctx.scale)  # v
        found = None
        if ctx.needs_input_grad[0]:
            found = product(gradient, weight.t()).addmm_(change, down).to(of_x)
        its_down = product(change.t(), x.t()).to(of_down) if ctx.needs_input_grad[3] else None
        its_up = product(inner.mul(ctx.scale).t(), gradient.t()).t().to(of_up) if ctx.needs_input_grad[4] else None
        return found, None, None, its_down, its_up, None


def adapt(model: nn.Module) -> None:
    """Let the linear modules with adapters of a model compute in this way."""
    for module in model.modules():
        if type(module) is lora.Linear:
            module.__class__ = AdaptedLinear
