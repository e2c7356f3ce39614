"""FSDP: weights, gradients and optimizer states are sharded over the processes; each holds its shard.

``torch.distributed.fsdp.fully_shard`` does it (arXiv 2304.11277; its second form, one shard per parameter): a layer's weights are
gathered for its own forward and backward pass and released after it; gradients are reduced and scattered on the way. It is used
directly, and not through ``accelerate``, because the passes here do not call the model's ``forward``: hidden states and logits are
computed apart, and gradients are sums over the processes, where ``accelerate`` would take the mean.

A sharded parameter is a ``DTensor``: it has the name and the shape of the full tensor, and every process has its rows. Two rules follow:

- All processes make the same number of passes, because each pass takes all of them: ``LanguageModel.in_step``.
- Where passes differ from process to process, as in rollouts, the full weights are gathered before: ``whole``.

Without ``shard``, and with one process, nothing here has an effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from steptool_env.errors import NotSupported

from ..parallel import processes

__all__ = ["clip_gradients", "exchange", "is_sharded", "joined", "reshard", "shard", "share_like", "whole"]


def shard(model: nn.Module, layers: Sequence[nn.Module], method: str, apart: Iterable[nn.Parameter]) -> None:
    """Shard a model's parameters over the processes.

    Args:
        model: On the device that it stays on. Parameters that belong to no layer are sharded, too, and stay gathered from the
            start of a pass to its end.
        layers: Its layers: each is gathered only while it runs.
        method: Name of the method of ``model`` that starts a pass; the backward pass goes through what it returns.
        apart: Parameters that are not sharded.

    Raises:
        NotSupported: This version of torch is too old for it.
    """
    if not hasattr(FSDPModule, "set_reduce_scatter_unused_params"):
        raise NotSupported(f"sharded weights need a newer torch than {torch.__version__}; 2.13 is tested")
    mesh = init_device_mesh(next(model.parameters()).device.type, (processes.world(),))
    for layer in layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    # Not resharded after the forward pass: the logits, which are computed apart, need the output projection then.
    fully_shard(model, mesh=mesh, reshard_after_forward=False, ignored_params=set(apart))
    register_fsdp_forward_method(model, method)
    for part in _parts(model):
        part.set_gradient_divide_factor(1.0)  # the sum, not the mean: the loss weights are over the tokens of all processes
        part.set_force_sum_reduction_for_comms(True)
        part.set_reduce_scatter_unused_params(True)  # or processes would exchange gradients of different parameters


def is_sharded(model: nn.Module) -> bool:
    """Return whether ``shard`` was applied to this model."""
    return isinstance(model, FSDPModule)


def _parts(model: nn.Module) -> list[FSDPModule]:
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def reshard(model: nn.Module) -> None:
    """Release all gathered parameters of a model; the shards of this process stay."""
    for part in _parts(model):
        part.reshard()


@contextmanager
def whole(model: nn.Module) -> Iterator[None]:
    """Gather all weights of a model in every process within the block: passes without gradient then need no other process.

    Its parameters are ordinary tensors meanwhile. Every process must enter and leave the block.
    """
    root: object = model
    parts = _parts(model)
    for part in parts:
        part.unshard()
        part.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(part is not root, recurse=False)


# -------------------------------------------------------------------- tensors
@torch.no_grad()
def joined(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the full tensors; sharded ones are gathered one after the other, to the CPU of the main process.

    The other processes must call it, too, and get back those that are not sharded.
    """
    gathered: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, DTensor):
            gathered[name] = tensor.detach()
            continue
        full = tensor.full_tensor()
        if processes.is_main():
            gathered[name] = full.cpu()
    return gathered


def share_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return a copy of a full tensor, sharded as the parameter is if the shapes are equal. Every process passes the same tensor."""
    if not isinstance(parameter, DTensor) or tensor.shape != parameter.shape:
        return tensor.clone()
    return distribute_tensor(tensor.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None)


@torch.no_grad()
def exchange(parameter: nn.Parameter, values: Tensor) -> Tensor:
    """Set a parameter to other values, sharded as it is, and return its former ones."""
    if not isinstance(parameter, DTensor):
        former, parameter.data = parameter.data, values
        return former
    # In place: FSDP reads the values from a buffer of its own.
    former = parameter.detach().clone()
    parameter.copy_(values)
    return former


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Scale the gradients down to this L2 norm, over all parameters and all shards; return the norm before."""
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
