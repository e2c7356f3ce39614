"""Matrix products in float32, by the faster of the two libraries that PyTorch has for them on CPUs.

It asks MKL, which computes with half the width of the processor's registers (AVX2) where it meets AVX512 in a processor that is not Intel's.
oneDNN, in the same build, uses all of it: about twice as fast there, and just as exact (benchmarks/product_speed.py). Elsewhere, and for small
products, PyTorch decides.
"""

from __future__ import annotations

import functools
import platform
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

__all__ = ["PLAIN", "ProductLinear", "fast_products", "product"]

LEAST = 2**21
"""Multiplications in a product. A smaller one takes oneDNN longer to prepare than to compute."""
NARROW = 8
"""Below so many rows or columns a product is the reading of a matrix, which both do alike."""


@functools.cache
def _helps() -> bool:
    """Return whether oneDNN is faster here. From the machine, not from a clock: what a run computes must not depend on what else is running."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"):
        return False
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # in another version of torch
        return False
    try:
        made_by = next(line for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if line.startswith("vendor_id"))
    except (OSError, StopIteration):
        made_by = platform.processor()
    return "Intel" not in made_by


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x·Wᵀ + b (n, out) for x (n, in), weight (out, in) and bias (out,), with any strides. No gradient flows through it."""
    rows, inner = x.shape
    columns = weight.shape[0]
    suits = rows * inner * columns >= LEAST and min(rows, inner, columns) >= NARROW and x.dtype == weight.dtype == torch.float32
    # Selective gradient checkpointing knows PyTorch's own products.
    if suits and x.device.type == "cpu" and _helps() and not is_in_torch_dispatch_mode():
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # type: ignore[no-any-return]
    return F.linear(x, weight, bias)


class _Product(torch.autograd.Function):
    """``product`` with its gradients: ∂x = ∂y·W, ∂W = ∂yᵀ·x, ∂b = Σ ∂y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        (gradient,) = gradients
        its_x = product(gradient, weight.t()) if ctx.needs_input_grad[0] else None
        its_weight = None
        if ctx.needs_input_grad[1]:  # the factor that comes first is copied in another order: the smaller one, then
            its_weight = product(x.t(), gradient.t()).t() if x.shape[1] < gradient.shape[1] else product(gradient.t(), x.t())
        return its_x, its_weight, gradient.sum(0) if ctx.needs_input_grad[2] else None


class ProductLinear(nn.Linear):
    """A linear module that computes in this way; it becomes one of this class by assignment."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the product (..., out) for (..., in)."""
        if not x.dtype == self.weight.dtype == torch.float32 or torch.is_autocast_enabled(x.device.type) or is_in_torch_dispatch_mode():
            return super().forward(x)
        # Flat on both sides: what a function returns may be changed in place, but not if it is a view that the function made.
        flat = _Product.apply(x.reshape(-1, x.shape[-1]), self.weight, self.bias)  # type: ignore[no-untyped-call]
        return flat.view(*x.shape[:-1], flat.shape[-1])  # type: ignore[no-any-return]


PLAIN = (nn.Linear, ProductLinear)
"""The classes of linear modules that are a product, and nothing more."""


def fast_products(model: nn.Module) -> None:
    """Let the linear modules of a model compute in this way, where that is faster."""
    if _helps():
        for module in model.modules():
            if type(module) is nn.Linear and module.weight.device.type == "cpu":
                module.__class__ = ProductLinear
