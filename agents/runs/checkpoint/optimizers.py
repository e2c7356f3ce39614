"""The state of an optimizer, split into tensors and JSON, and restored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from steptool_env.errors import CheckpointError

from ...parallel.sharding import share_like
from .plain import JSON, check_json

__all__ = ["flatten_optimizer", "restore_optimizer"]


def flatten_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, JSON]]:
    """Split an optimizer's state into tensors and JSON.

    Returns:
        Tensors, ``"<index of the parameter>.<name>"`` (moments, step counts) and ``"group.<index>.<name>"``; and JSON with
        the rest (hyperparameters, shapes of the parameters).

    Raises:
        InvalidArgument: The state holds something that is neither a tensor nor JSON (LBFGS keeps lists of tensors).
    """
    raw = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    state: dict[str, dict[str, JSON]] = {}
    groups: list[dict[str, JSON]] = []
    for index, entries in raw["state"].items():
        state[str(index)] = rest = {}
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value
            else:
                rest[name] = value
    for k, group in enumerate(raw["param_groups"]):
        groups.append({})
        for name, value in group.items():
            if isinstance(value, Tensor):
                tensors[f"group.{k}.{name}"] = value
            else:
                groups[-1][name] = value
    shapes = [[list(parameter.shape) for parameter in group["params"]] for group in optimizer.param_groups]
    result = {"kind": type(optimizer).__name__, "state": state, "groups": groups, "shapes": shapes}
    check_json(result, "optimizer")
    return tensors, result


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], state: Mapping[str, JSON]) -> None:
    """Restore what ``flatten_optimizer`` returned; tensors get the device and the sharding of their parameter.

    Raises:
        CheckpointError: The optimizer is of another type or its parameters have other shapes or groups; it is not changed.
    """
    kind, shapes = type(optimizer).__name__, [[list(parameter.shape) for parameter in group["params"]] for group in optimizer.param_groups]
    if state.get("kind") != kind:
        raise CheckpointError(f"the checkpoint holds the state of {state.get('kind')!r}, the optimizer is {kind!r}")
    if state.get("shapes") != shapes:
        raise CheckpointError("the shapes of the optimizer's parameters differ from those in the checkpoint; is it the same model?")
    names = [[group.get("name") for group in of] for of in (state["groups"], optimizer.param_groups)]
    if names[0] != names[1]:
        raise CheckpointError(f"the checkpoint has the parameter groups {names[0]}, the optimizer has {names[1]}; was it another algorithm?")
    groups = []
    for saved, current in zip(state["groups"], optimizer.state_dict()["param_groups"], strict=True):
        # JSON has no tuples: a value like Adam's betas becomes a tuple again where this optimizer has one.
        groups.append({name: tuple(value) if isinstance(current.get(name), tuple) else value for name, value in saved.items()})
    entries: dict[int, dict[str, Any]] = {int(index): dict(rest) for index, rest in state["state"].items()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for key, tensor in tensors.items():
        owner, _, name = key.partition(".")
        if owner == "group":
            number, _, name = name.partition(".")
            groups[int(number)][name] = tensor.clone()
        else:
            entries[int(owner)][name] = share_like(tensor, parameters[int(owner)])  # a copy: the optimizer updates in place
    optimizer.load_state_dict({"state": entries, "param_groups": groups})
