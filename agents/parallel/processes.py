"""Data parallelism: processes started by ``accelerate launch``. Each plays and learns from its share; all hold the same weights.

    accelerate launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no \\
        -m steptool_agents train --out runs/two

(``--multi_gpu`` on CPUs, too: without it, accelerate starts one process.)

Every process draws the same tasks and plays every n-th of them; trajectories are gathered, so that credit is assigned over the
whole batch. Each process then encodes its share of a minibatch, weighted over the action tokens of the whole minibatch, and the
gradients are summed: the sum equals the gradient of a single process. Without ``accelerate launch`` there is one process, and
nothing here has an effect. ``sharding.py`` is for weights that are too large for every process to hold.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

__all__ = ["add_gradients", "add_numbers", "gather", "is_main", "most", "once", "portable", "rank", "share", "start", "tell", "wait", "world"]

T = TypeVar("T")


def start(*, cpu: bool) -> None:
    """Join the process group if there are several processes; may be called again.

    Args:
        cpu: Whether the model is on the CPU, which takes another backend of ``torch.distributed`` than GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        from accelerate import PartialState

        PartialState(cpu=cpu)


def world() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the rank of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Return whether this is the process that writes files and shows progress."""
    return rank() == 0


def wait() -> None:
    """Wait for all processes."""
    if world() > 1:
        dist.barrier()


def share(items: Sequence[T]) -> list[T]:
    """Return this process's share: every n-th item."""
    return list(items[rank() :: world()])


def gather(items: Sequence[T]) -> list[T]:
    """Return the items of all processes in the order that ``share`` took them from; the same list in every process.

    Tensors in them must be ``portable``.
    """
    if world() == 1:
        return list(items)
    parts: list[Any] = [None] * world()
    dist.all_gather_object(parts, list(items))
    return [part[index] for index in range(max(map(len, parts))) for part in parts if index < len(part)]


def portable(tensor: Tensor) -> Tensor:
    """Return a tensor as other processes can take it: where there are several, on the CPU. One on a GPU would arrive on the sender's."""
    return tensor.cpu() if world() > 1 else tensor


def tell(value: T | None) -> T:
    """Return the value of the main process in every process; what the others pass is of no concern. Waits for all of them."""
    return gather([value] if is_main() else [])[0]  # type: ignore[return-value]  # the main process has one


def once(make: Callable[[], T]) -> T:
    """Return in every process what ``make`` returns in the main process, the only one that calls it. Waits for all of them."""
    return make() if world() == 1 else tell(make() if is_main() else None)


def add_numbers(numbers: dict[str, float]) -> dict[str, float]:
    """Return the sums of the numbers of all processes, by name; a name that a process lacks counts 0 there."""
    if world() == 1:
        return numbers
    parts: list[Any] = [None] * world()
    dist.all_gather_object(parts, numbers)
    return {name: sum(part.get(name, 0.0) for part in parts) for name in dict.fromkeys(name for part in parts for name in part)}


def most(number: int) -> int:
    """Return the largest of the numbers of all processes."""
    parts: list[Any] = [number] * world()
    if world() > 1:
        dist.all_gather_object(parts, number)
    largest: int = max(parts)
    return largest


def add_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their sums over all processes. A missing gradient counts 0; it stays None if all processes lack it.

    The gradients of sharded parameters (``sharding.py``) are such sums already and are left alone.
    """
    replicated = [parameter for parameter in parameters if not isinstance(parameter, DTensor)]
    if world() == 1 or not replicated:
        return
    counts = torch.tensor([float(parameter.grad is not None) for parameter in replicated])
    counts = counts.to(replicated[0].device)
    dist.all_reduce(counts)
    used = [parameter for parameter, count in zip(replicated, counts.tolist(), strict=True) if count]
    if not used:
        return
    # One message for all parameters: one for each would wait for the network as often.
    flat = torch.cat([(parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)).flatten().float() for parameter in used])
    dist.all_reduce(flat)
    for parameter, gradient in zip(used, flat.split([parameter.numel() for parameter in used]), strict=True):
        parameter.grad = gradient.view_as(parameter).to(parameter.dtype)
