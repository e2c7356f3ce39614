"""Weights made for playing: while a model writes, its weights are used for every token and never change.

``Packed`` is the model's decoder once more. It shares every tensor with the one that learns, except the matrices of linear modules,
of which it has copies that are made once and then only read:

- **merged**: adapters are added to the matrix that they adapt, W + s·B·A, so that a product is one product;
- **rounded** to bfloat16 where passes run in it. Autocast would convert each matrix for every token;
- **packed**: on CPUs, in the order in which the kernel of oneDNN reads them. It would bring each into that order for every token.

In float32 only adapters are merged; without them there is nothing to copy, and the decoder plays as it learns.

Copies cost the memory of the matrices once more: 2 bytes per weight in bfloat16, 4 in float32. They are dropped when the model learns.

A merged matrix is rounded after the addition, adapters that learn are not rounded together with it. So in bfloat16 with adapters, the policy
that plays differs from the one that learns by a rounding of its weights, as it does with any other program that serves merged weights.
The log-probabilities of an action are those of the policy that sampled it, and the ratio of the clipped objective is taken to these.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from peft.tuners import lora
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from .adapters import AdaptedLinear
from .probe import probe_ids
from .products import PLAIN, product

__all__ = ["Copies", "Packed", "PackedLinear"]

logger = logging.getLogger(__name__)

TOLERANCE = 0.1
"""Of the norm of a token's hidden state. Rounding once more in a stack of layers comes to some hundredths, a module that was mistaken for another to 1."""


class PackedLinear(nn.Module):
    """A product with a matrix that is never changed.

    Args:
        weight: (out, in)
        bias: (out,)
        dtype: Of the product: bfloat16, or float32 for weights that are not rounded.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.dtype = dtype
        self.matrix = weight.detach().to(dtype)  # not a parameter: no name, no place in a state dict
        self.offset = None if bias is None else bias.detach().to(dtype)
        self.in_order = _packs(self.matrix)
        if self.in_order:
            self.matrix = torch.ops.mkldnn._reorder_linear_weight(self.matrix.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """Return the product (..., out) for (..., in)."""
        x = x.to(self.dtype)
        if self.in_order:
            return torch.ops.mkldnn._linear_pointwise(x, self.matrix, self.offset, "none", [], "")  # type: ignore[no-any-return]
        return product(x.reshape(-1, self.in_features), self.matrix, self.offset).view(*x.shape[:-1], self.out_features)


class Packed:
    """A decoder and an output projection made for playing.

    Args:
        decoder: Gives hidden states; it is not changed.
        head: The output projection.
        bfloat16: Whether passes run in bfloat16.
    """

    def __init__(self, decoder: nn.Module, head: nn.Module, *, bfloat16: bool) -> None:
        self.copied = 0
        """Weights in matrices of which there is a copy."""
        self._bfloat16 = bfloat16
        with torch.no_grad():
            self.head = self._linear(head)
            """None: there is no copy of it."""
            self.decoder: Any = self._twin(decoder, {})

    def _twin(self, module: nn.Module, known: dict[int, nn.Module]) -> nn.Module:
        """Return a module that shares its tensors with another one, with packed linear modules in it."""
        if id(module) in known:
            return known[id(module)]
        twin: nn.Module | None = self._linear(module)
        if twin is None:
            twin = copy.copy(module)
            twin.__dict__["_modules"] = {name: None if child is None else self._twin(child, known) for name, child in module._modules.items()}
        known[id(module)] = twin
        return twin

    def _linear(self, module: Any) -> PackedLinear | None:
        """Return a packed copy of a linear module; None if this one is not to be copied."""
        base = module.base_layer if type(module) in (lora.Linear, AdaptedLinear) else module
        # A subclass may do anything, and other numbers may mean anything.
        if type(base) not in PLAIN or base.weight.dtype not in (torch.float32, torch.bfloat16) or (base is module and not self._bfloat16):
            return None
        weight = base.weight if base is module else _merged(module)
        if weight is None:
            return None
        self.copied += weight.numel()
        return PackedLinear(weight, base.bias, torch.bfloat16 if self._bfloat16 else base.weight.dtype)


def _merged(module: Any) -> Tensor | None:
    """Return the weight of a linear module with its adapters added; None if they are not, or not only, added to it."""
    if module.merged or module.disable_adapters:
        return None
    weight: Tensor = module.base_layer.weight
    for name in module.active_adapters:
        if name not in module.lora_A:
            continue
        if module.lora_variant.get(name) is not None or module.lora_B[name].bias is not None:  # more than a product of two matrices
            return None
        weight = weight.float() + module.get_delta_weight(name).float()
    return weight


def _packs(weight: Tensor) -> bool:
    """Return whether oneDNN computes with such a matrix."""
    # Not in float32: there the order of the matrix makes no difference.
    return weight.dtype == torch.bfloat16 and weight.device.type == "cpu" and torch.backends.mkldnn.is_available() and _computes_in_bfloat16()


def _computes_in_bfloat16() -> bool:
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):  # a build of torch without it
        return False


class Copies:
    """The packed copies of one model: made when it plays, dropped when it learns, made again when its weights have changed.

    A model that they cannot be made of, or that says something else with them, plays with its own weights.
    """

    def __init__(self) -> None:
        self.enabled = True
        """False: it plays with its own weights."""
        self._packed: Packed | None = None
        self._parameters: list[nn.Parameter] = []
        self._version: tuple[tuple[int, int], ...] = ()
        self._tried = False

    @property
    def copied(self) -> int:
        """How many weights there are copies of now."""
        return 0 if self._packed is None else self._packed.copied

    def drop(self) -> None:
        """Free the memory of the copies."""
        self._packed, self._parameters = None, []

    def of(self, decoder: Any, head: nn.Module, *, bfloat16: bool) -> Packed | None:
        """Return the copies of the present weights, see ``Packed`` for the arguments; None: play with the weights as they are."""
        if not self.enabled:
            return None
        if self._packed is None or self._version != _version(self._parameters):
            self.drop()  # before there are others
            if not (bfloat16 or any(isinstance(module, BaseTunerLayer) for module in decoder.modules())):
                self.enabled = False
                return None
            self._parameters = [*decoder.parameters(), *head.parameters()]
            if not _have_room(self._parameters):
                return None  # perhaps the next time
            try:
                packed = Packed(decoder, head, bfloat16=bfloat16)
                alike = self._tried or _alike(decoder, packed.decoder, bfloat16)
            except Exception as fault:  # whatever an architecture's code does with modules that are not its own
                logger.debug("no copies for playing: %s", fault)
                alike = False
            self._tried = True
            if not alike:
                self.enabled = False
                logger.warning("%s: with weights made for playing it says something else, so it plays with its own: slower", type(decoder).__name__)
                return None
            self._packed, self._version = packed, _version(self._parameters)
        return self._packed


def _version(parameters: Iterable[Tensor]) -> tuple[tuple[int, int], ...]:
    """Return what changes when one of the parameters does."""
    return tuple((parameter.data_ptr(), parameter._version) for parameter in parameters)


def _have_room(parameters: Sequence[Tensor]) -> bool:
    """Return whether the copies take at most half of the memory that is free on a GPU: the rest is for keys and values."""
    device = parameters[0].device
    return device.type != "cuda" or 4 * sum(parameter.numel() for parameter in parameters) < torch.cuda.mem_get_info(device)[0]


@torch.no_grad()
def _alike(decoder: Any, twin: Any, bfloat16: bool) -> bool:
    """Return whether two decoders say the same of a few tokens, up to rounding."""
    device = next(decoder.parameters()).device
    ids = probe_ids(16, int(decoder.get_input_embeddings().weight.shape[0]), device)[None]
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
        expected, found = (one(input_ids=ids, use_cache=False).last_hidden_state.float() for one in (decoder, twin))
    error = (found - expected).norm(dim=-1) / expected.norm(dim=-1)
    return bool(error.median() <= TOLERANCE)  # single tokens may be unstable; a mistaken module is in the way of all
