"""``LanguageModel``: the interface of this package to any causal language model of ``transformers``.

It turns token ids into hidden states, and hidden states into logits and values, in any precision and on any number of processes.
It neither samples (``generation/``) nor learns (``learning/``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_layers import GradientCheckpointingLayer

from steptool_env.errors import NotSupported

from ..parallel import processes, sharding
from ..parallel.profiling import Profiler
from .attention import ATTENTION
from .recompute import recompute as recomputed_layers
from .value_head import ValueHead

__all__ = ["LanguageModel"]

T = TypeVar("T")


class LanguageModel(nn.Module):
    """A causal language model with its tokenizer and a value head that reads the same hidden states.

    Args:
        model: A ``transformers`` causal LM, or a ``peft`` model around one.
        tokenizer: Its tokenizer.
        bfloat16: Run the forward passes under autocast to bfloat16; weights stay as they are.
        recompute: Gradient checkpointing, see ``recompute.py``: False, True, or ``"selective"``.

    Raises:
        InvalidArgument: ``recompute`` has another value.
        NotSupported: The model's logits are not a plain projection of its last hidden state, or it uses a kind of attention
            that ``attention.attend`` does not implement, such as a sliding window.
    """

    def __init__(
        self, model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, *, bfloat16: bool = False, recompute: bool | str = False
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.autocast = bfloat16
        self.profiler = Profiler()
        """Times everything that is done with this model."""
        base: Any = model.get_base_model() if isinstance(model, PeftModel) else model  # its adapters stay in place
        self._parts: tuple[Any, Any] = (base.get_decoder(), base.get_output_embeddings())  # a tuple: registered once, in model
        self.config = base.config
        width = self.config.hidden_size
        self.value_head = ValueHead(width).to(self.device)
        self.profiler.exact = self.device.type == "cuda"
        kinds = getattr(self.config, "layer_types", None) or ["sliding"] * (getattr(self.config, "sliding_window", None) is not None)
        if any(kind != "full_attention" for kind in kinds):
            raise NotSupported(f"{self.config.model_type}: layers with a sliding window are not supported by the rollout cache")
        self._head: tuple[tuple[int, int], Tensor] | None = None
        """Address and version of the output projection's weight, and that weight in bfloat16."""
        self._recomputed: list[nn.Module] = []
        self._check_head(base)
        if bfloat16:
            self._round_frozen()
        self._recomputed = recomputed_layers(base, recompute)
        self.eval()  # supervised learning turns dropout on; sampling must not have it

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def context(self) -> int:
        """The longest sequence that the model takes, in tokens."""
        return int(self.config.max_position_embeddings)

    def hidden(self, ids: Tensor, **options: Any) -> Tensor:
        """Return the last hidden states (B, L, H) in float32 for token ids (B, L)."""
        options.setdefault("use_cache", False)
        for layer in self._recomputed:
            # Of the layer alone: it recomputes only in training mode, and its dropout stays as it is. Not in rollouts: it would ignore the cache.
            layer.training = torch.is_grad_enabled()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            return self._parts[0](input_ids=ids, **options).last_hidden_state.float()  # type: ignore[no-any-return]

    @property
    def vocabulary(self) -> int:
        """V, the number of logits per token."""
        return int(self._parts[1].weight.shape[0])

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits (..., V) of hidden states (..., H)."""
        head = self._parts[1]
        if self.autocast and not head.weight.requires_grad and not sharding.is_sharded(self):
            return F.linear(hidden.to(torch.bfloat16), self._rounded(head.weight), head.bias)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            return head(hidden.to(head.weight.dtype))  # type: ignore[no-any-return]

    def _rounded(self, weight: Tensor) -> Tensor:
        """Return the frozen output projection in bfloat16: autocast would convert it for every chunk, which takes longer than the product."""
        state = (weight.data_ptr(), weight._version)
        if self._head is None or self._head[0] != state:
            with torch.inference_mode(False):  # the first call may be a rollout's, and inference tensors cannot be used in a backward pass
                self._head = (state, weight.detach().to(torch.bfloat16))
        return self._head[1]

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return the trainable parameters by name, those of the value head included."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    @contextmanager
    def swapped(self, weights: dict[str, Tensor]) -> Iterator[None]:
        """Use other trainable weights within the block, such as the reference policy's: no second model is needed."""
        parameters = self.trainable()
        current: dict[str, Tensor] = {}
        try:
            for name, weight in weights.items():
                current[name] = sharding.exchange(parameters[name], weight)
            yield
        finally:
            for name, weight in current.items():
                sharding.exchange(parameters[name], weight)

    # ---------------------------------------------------------------- several processes
    def shard(self) -> None:
        """Shard the weights over the processes, see ``sharding.py``; not the value head, which is small and is trained apart."""
        layers = [module for module in self.modules() if isinstance(module, GradientCheckpointingLayer)]
        sharding.shard(self, layers, "hidden", self.value_head.parameters())

    def whole(self) -> AbstractContextManager[None]:
        """Gather all weights in every process within the block, for rollouts; see ``sharding.whole``. No effect if they are not sharded."""
        return sharding.whole(self)

    def in_step(self, groups: Iterable[T]) -> Iterator[T]:
        """Yield the groups, one for each pass of this process; with sharded weights, join the passes of processes that have more.

        Such a pass reads one token and adds nothing to any gradient. All processes must call it, with or without groups.
        """
        if not sharding.is_sharded(self):
            yield from groups
            return
        local_groups = list(groups)
        missing = processes.most(len(local_groups)) - len(local_groups)
        yield from local_groups
        for _ in range(missing):
            zero = 0.0 * self.hidden(torch.zeros(1, 1, dtype=torch.int64, device=self.device)).sum()
            if zero.requires_grad:
                zero.backward()
        sharding.reshard(self)

    def _round_frozen(self) -> None:
        """Keep the frozen matrices of the layers in bfloat16, to which autocast would convert them for every product.

        The products are the same to the last bit. Embeddings stay in float32, as does the residual stream that starts with them.
        """
        for module in self._parts[0].modules():
            if isinstance(module, nn.Linear) and not any(parameter.requires_grad for parameter in module.parameters()):
                module.to(torch.bfloat16)

    @torch.no_grad()
    def _check_head(self, base: Any) -> None:
        """Switch the model to the attention of this package, and compare its logits with those of its own attention and head.

        Raises:
            NotSupported: They differ, or the attention cannot be switched.
        """
        ids = torch.arange(2, 6, device=self.device)[None]
        autocast = self.autocast
        self.eval()  # dropout differs from call to call
        self.autocast = False  # after thirty layers, rounding to bfloat16 alone exceeds the tolerance
        expected = self.model(input_ids=ids).logits.float()
        base.set_attn_implementation(ATTENTION)
        if self.config._attn_implementation != ATTENTION:
            raise NotSupported(f"{self.config.model_type}: its attention cannot be chosen, so its cache cannot be shared between episodes")
        self._recomputed = []
        got = self.logits(self.hidden(ids)).float()
        self.autocast = autocast
        # Relative to the logits: those of random weights are small.
        if (expected - got).abs().max() > 0.02 * expected.abs().max():
            raise NotSupported(f"{self.config.model_type}: its logits are not a plain projection of its last hidden state")
