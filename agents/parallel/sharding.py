"""FSDP: weights, gradients and the optimizer's moments are cut up among the processes, and each holds its share of them.

``torch.distributed.fsdp.fully_shard`` does it (arXiv 2304.11277; its second form, one shard per parameter): a layer's weights are
put together for its own pass, forward and backward, and given up after it; gradients are added up and cut on the way. It is used
as it is, and not through ``accelerate``, because the passes here are not the model's own: hidden states and logits are asked for
apart, and gradients are sums over the processes, where ``accelerate`` would have their mean.

What is cut is a ``DTensor``: it has the name and the shape of the whole, and every process has its rows. Two rules follow:

- All processes make the same number of passes, because each pass takes all of them: ``LanguageModel.in_step``.
- Where passes differ from process to process, as in playing, the weights are put together before: ``whole``.

Without ``shard``, and with one process, nothing here acts.
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
    """Cut a model's parameters up among the processes.

    Args:
        model: On the device that it stays on. What belongs to no layer is cut up, too, and is whole from the beginning of a pass to
            its end.
        layers: Its layers: each is whole only while it runs.
        method: The method of ``model`` that begins a pass; the backward pass goes through what it returns.
        apart: Parameters that every process keeps as they are.

    Raises:
        NotSupported: This version of torch is too old for it.
    """
    if not hasattr(FSDPModule, "set_reduce_scatter_unused_params"):
        raise NotSupported(f"sharded weights need a newer torch than {torch.__version__}; 2.13 is tested")
    mesh = init_device_mesh(next(model.parameters()).device.type, (processes.world(),))
    for layer in layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
    # Not given up after the forward pass: the logits, which are computed apart, need their projection then.
    fully_shard(model, mesh=mesh, reshard_after_forward=False, ignored_params=set(apart))
    register_fsdp_forward_method(model, method)
    for part in _parts(model):
        part.set_gradient_divide_factor(1.0)  # the sum, not the mean: weights are over the tokens of all processes
        part.set_force_sum_reduction_for_comms(True)
        part.set_reduce_scatter_unused_params(True)  # or processes would exchange gradients of different parameters


def is_sharded(model: nn.Module) -> bool:
    """Return whether ``shard`` has cut this model up."""
    return isinstance(model, FSDPModule)


def _parts(model: nn.Module) -> list[FSDPModule]:
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def reshard(model: nn.Module) -> None:
    """Give up what is whole of a model, but for the own shards."""
    for part in _parts(model):
        part.reshard()


@contextmanager
def whole(model: nn.Module) -> Iterator[None]:
    """Hold all weights of a model in every process for a while: passes without gradient need no other process then.

    Its parameters are ordinary tensors meanwhile. Every process must come by here.
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
    """Return the same tensors, whole; those that are cut up go to the CPU of the main process, one after the other.

    The other processes must call it, too, and get back what is not cut up.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, DTensor):
            found[name] = tensor.detach()
            continue
        full = tensor.full_tensor()
        if processes.is_main():
            found[name] = full.cpu()
    return found


def share_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return a copy of a whole tensor, cut up as the parameter is if it has the parameter's shape. The same in every process."""
    if not isinstance(parameter, DTensor) or tensor.shape != parameter.shape:
        return tensor.clone()
    return distribute_tensor(tensor.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None)


@torch.no_grad()
def exchange(parameter: nn.Parameter, values: Tensor) -> Tensor:
    """Give a parameter other values, cut up as it is, and return those that it had."""
    if not isinstance(parameter, DTensor):
        former, parameter.data = parameter.data, values
        return former
    # Only the contents: FSDP reads them where they lie, in a buffer of its own.
    former = parameter.detach().clone()
    parameter.copy_(values)
    return former


def clip_gradients(parameters: Iterable[nn.Parameter], most: float) -> float:
    """Scale the gradients down to this norm, over all parameters and all shards, and return the norm that they had."""
    norm = torch.nn.utils.clip_grad_norm_(parameters, most)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
