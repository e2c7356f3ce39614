"""Several processes, started by ``accelerate launch``: each plays and learns its share, and all hold the same weights.

    accelerate launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no \\
        -m steptool_agents train --out runs/two

(``--multi_gpu`` on processors, too: without it, accelerate starts one process.)

Every process draws the same tasks and plays every n-th of them; trajectories are exchanged, so that credit is assigned over the
whole batch. Each then encodes its share of a minibatch, with weights over the action tokens of all, and the gradients are
added up: the sum is the gradient of one process. Without ``accelerate launch`` there is one process, and nothing here acts. ``sharding.py``
is for weights that are too large to be held by each.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

__all__ = ["add_gradients", "add_numbers", "gather", "is_main", "most", "rank", "share", "start", "wait", "world"]

T = TypeVar("T")


def start(*, cpu: bool) -> None:
    """Join the other processes, if this one was started beside others; may be called again.

    Args:
        cpu: Whether the model is on the processor: cards exchange tensors in another way.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        from accelerate import PartialState

        PartialState(cpu=cpu)


def world() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number, from 0."""
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


def gather(mine: Sequence[T]) -> list[T]:
    """Return everybody's shares in the order that ``share`` took them from; the same in every process."""
    if world() == 1:
        return list(mine)
    parts: list[Any] = [None] * world()
    dist.all_gather_object(parts, list(mine))
    return [part[place] for place in range(max(map(len, parts))) for part in parts if place < len(part)]


def add_numbers(numbers: dict[str, float]) -> dict[str, float]:
    """Return the sums of everybody's numbers; a name that some processes lack counts 0 there."""
    if world() == 1:
        return numbers
    parts: list[Any] = [None] * world()
    dist.all_gather_object(parts, numbers)
    return {name: sum(part.get(name, 0.0) for part in parts) for name in dict.fromkeys(name for part in parts for name in part)}


def most(number: int) -> int:
    """Return the largest of everybody's numbers."""
    parts: list[Any] = [number] * world()
    if world() > 1:
        dist.all_gather_object(parts, number)
    found: int = max(parts)
    return found


def add_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by the sums of everybody's. A parameter without one counts 0, and stays without if nobody has one.

    The gradients of parameters that are cut up (``sharding.py``) are such sums already.
    """
    every = [one for one in parameters if not isinstance(one, DTensor)]
    if world() == 1 or not every:
        return
    has = torch.tensor([float(one.grad is not None) for one in every])
    has = has.to(every[0].device)
    dist.all_reduce(has)
    some = [one for one, count in zip(every, has.tolist(), strict=True) if count]
    if not some:
        return
    # One message for all: a message per parameter would wait for the network as often.
    flat = torch.cat([(one.grad if one.grad is not None else torch.zeros_like(one)).flatten().float() for one in some])
    dist.all_reduce(flat)
    for one, piece in zip(some, flat.split([one.numel() for one in some]), strict=True):
        one.grad = piece.view_as(one).to(one.dtype)
