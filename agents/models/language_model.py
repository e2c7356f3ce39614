"""``LanguageModel``: any causal language model of ``transformers``, as everything else in this package sees it.

It turns token ids into hidden states, and hidden states into logits and values, in whichever precision and on however many
processes. It neither samples (``generation/``) nor learns (``learning/``).
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
        InvalidArgument: ``recompute`` is something else.
        NotSupported: The model's logits are not a plain projection of its last hidden state, or it attends in a way that
            ``attention.attend`` does not know, such as to a window.
    """

    def __init__(
        self, model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, *, bfloat16: bool = False, recompute: bool | str = False
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.autocast = bfloat16
        self.profiler = Profiler()
        """Where the time goes, of everything that is done with this model."""
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
        """The projection's weight in bfloat16, and which weight that was."""
        self._recomputed: list[nn.Module] = []
        self._check_head(base)
        if bfloat16:
            self._round_frozen()
        self._recomputed = recomputed_layers(base, recompute)
        self.eval()  # dropout belongs to supervised learning, which asks for it; sampling must not have it

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def context(self) -> int:
        """The longest sequence that the model takes, in tokens."""
        return int(self.config.max_position_embeddings)

    def hidden(self, ids: Tensor, **options: Any) -> Tensor:
        """Return the last hidden states (B, L, H) in float32 for token ids (B, L)."""
        options.setdefault("use_cache", False)
        for layer in self._recomputed:
            # The layer alone: only then it recomputes, and its dropout stays as it is. Not while playing: it would do without the cache.
            layer.training = torch.is_grad_enabled()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            return self._parts[0](input_ids=ids, **options).last_hidden_state.float()  # type: ignore[no-any-return]

    @property
    def vocabulary(self) -> int:
        """How many logits there are per token."""
        return int(self._parts[1].weight.shape[0])

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits (..., V) of hidden states (..., H)."""
        head = self._parts[1]
        if self.autocast and not head.weight.requires_grad and not sharding.is_sharded(self):
            return F.linear(hidden.to(torch.bfloat16), self._rounded(head.weight), head.bias)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            return head(hidden.to(head.weight.dtype))  # type: ignore[no-any-return]

    def _rounded(self, weight: Tensor) -> Tensor:
        """Return the frozen projection in bfloat16: autocast would convert it for every chunk, which takes longer than the product."""
        state = (weight.data_ptr(), weight._version)
        if self._head is None or self._head[0] != state:
            with torch.inference_mode(False):  # the first to ask may be playing, where nothing may be kept for a backward pass
                self._head = (state, weight.detach().to(torch.bfloat16))
        return self._head[1]

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return the parameters that training changes, by name, the value head included."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    @contextmanager
    def swapped(self, weights: dict[str, Tensor]) -> Iterator[None]:
        """Put other weights into the trainable parameters for a while, such as the reference policy's: no second model."""
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
        """Cut the weights up among the processes, see ``sharding.py``; the value head, which is small and learns apart, stays whole."""
        layers = [module for module in self.modules() if isinstance(module, GradientCheckpointingLayer)]
        sharding.shard(self, layers, "hidden", self.value_head.parameters())

    def whole(self) -> AbstractContextManager[None]:
        """Hold all weights in every process for a while, to play; see ``sharding.whole``. Nothing changes if they are not cut up."""
        return sharding.whole(self)

    def in_step(self, groups: Iterable[T]) -> Iterator[T]:
        """Yield the groups, one for each pass of this process; cut up, go along with the passes of those that have more of them.

        Such a pass reads one token and has no share in any gradient. All processes must come by here, with or without groups.
        """
        if not sharding.is_sharded(self):
            yield from groups
            return
        mine = list(groups)
        missing = processes.most(len(mine)) - len(mine)
        yield from mine
        for _ in range(missing):
            nothing = 0.0 * self.hidden(torch.zeros(1, 1, dtype=torch.int64, device=self.device)).sum()
            if nothing.requires_grad:
                nothing.backward()
        sharding.reshard(self)

    def _round_frozen(self) -> None:
        """Keep the frozen matrices of the layers in bfloat16, in which autocast would have them for every product anew.

        The products are the same to the last bit. Embeddings stay: the sums along the layers are in float32, and begin with them.
        """
        for module in self._parts[0].modules():
            if isinstance(module, nn.Linear) and not any(own.requires_grad for own in module.parameters()):
                module.to(torch.bfloat16)

    @torch.no_grad()
    def _check_head(self, base: Any) -> None:
        """Compare with the model's own attention and head; the model has the attention of this package afterwards."""
        ids = torch.arange(2, 6, device=self.device)[None]
        autocast = self.autocast
        self.eval()  # dropout differs from call to call
        self.autocast = False  # thirty layers of bfloat16 differ by more than the tolerance in how they are rounded alone
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
