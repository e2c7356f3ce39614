"""``LanguageModel``: the interface of this package to any causal language model of ``transformers``.

It turns token ids into hidden states, and hidden states into logits and values, in any precision and on any number of processes.
It neither samples (``generation/``) nor learns (``learning/``).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
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
from .context import context_of
from .head import scale_and_cap
from .packing import Copies, Packed
from .probe import probe_ids
from .recompute import recompute as recomputed_layers
from .tree import Tree, reading
from .tree_trial import says_the_same_in_a_tree
from .value_head import ValueHead

__all__ = ["Kept", "LanguageModel"]

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Kept:
    """What a model keeps of the tokens that it has read, in a class of its own."""

    name: str
    """How the model calls it, as an argument and in what it returns."""
    cache: Any = None
    """None before the first token."""


class LanguageModel(nn.Module):
    """A causal language model with its tokenizer and a value head that reads the same hidden states.

    Args:
        model: A ``transformers`` causal LM, or a ``peft`` model around one.
        tokenizer: Its tokenizer.
        bfloat16: Run the forward passes under autocast to bfloat16; weights stay as they are.
        recompute: Gradient checkpointing, see ``recompute.py``: False, True, or ``"selective"``.

    Raises:
        InvalidArgument: ``recompute`` has another value.
        NotSupported: The model's logits are not a projection of its last hidden state, scaled or capped; or it cannot recompute.
    """

    def __init__(
        self, model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, *, bfloat16: bool = False, recompute: bool | str = False
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.autocast = False  # until the checks are made: after thirty layers, rounding to bfloat16 alone exceeds their tolerance
        self.profiler = Profiler()
        """Times everything that is done with this model."""
        base: Any = model.get_base_model() if isinstance(model, PeftModel) else model  # its adapters stay in place
        decoder = base.get_decoder()
        if decoder is base:  # some have a name for it that transformers does not look for
            decoder = base.base_model if base.base_model is not base else base.model
        self._parts: tuple[Any, Any] = (decoder, base.get_output_embeddings())  # a tuple: registered once, in model
        self.config = base.config
        if self._parts[1] is None or not hasattr(self._parts[1], "weight"):
            raise NotSupported(f"{self.config.model_type}: it has no output projection to read a policy from; it is no causal language model of words")
        self.value_head = ValueHead(int(self._parts[1].weight.shape[1])).to(self.device)
        self.profiler.exact = self.device.type == "cuda"
        self.own_attention: str = self.config._attn_implementation
        """The attention that the model was loaded with."""
        self.way: Any = None
        """How the model can play; ``generation/choice.py`` finds it out once."""
        self._accepts = inspect.signature(self._parts[0].forward).parameters
        self._scale, self._cap = 1.0, 0.0
        """The logits are the projection times the scale, then capped softly; 0: not capped."""
        self._head: tuple[tuple[int, int], Tensor] | None = None
        """Address and version of the output projection's weight, and that weight in bfloat16."""
        self.copies = Copies()
        """Weights made for playing."""
        self._played: Packed | None = None  # the copies, while they are in use
        self._recomputed: list[nn.Module] = []
        self._frozen: list[nn.Module] = []
        """Those whose weights are kept in bfloat16."""
        self._check_head()
        self._choose_attention(base)
        self._trees = self._check_trees()
        self.autocast = bfloat16
        if bfloat16:
            self._round_frozen()
        self._recomputed = recomputed_layers(base, recompute)
        self.eval()  # supervised learning turns dropout on; sampling must not have it

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def name(self) -> str:
        """How messages call the model: what it was loaded from, and its architecture."""
        return f"{getattr(self.config, '_name_or_path', '') or 'a model'} ({self.config.model_type})"

    @property
    def context(self) -> int:
        """The longest sequence that the model takes, in tokens."""
        return context_of(self.config, self.tokenizer)

    def hidden(self, ids: Tensor, kept: Kept | None = None, *, tree: Tree | None = None, **options: Any) -> Tensor:
        """Return the last hidden states (B, L, H) in float32 for token ids (B, L).

        Args:
            ids: Padded on the right with anything: no state depends on what comes after it.
            kept: What the model keeps of the tokens before these; read, and replaced. None: there are none, and nothing is kept.
            tree: The tokens are those of one, B = 1; only if ``reads_trees``.
            options: For the model; those that it does not know are left out.
        """
        options.setdefault("use_cache", kept is not None)
        if tree is not None:
            options["position_ids"] = tree.positions[None]
        if kept is not None:
            options[kept.name] = kept.cache
        for layer in self._recomputed:
            # Of the layer alone: it recomputes only in training mode, and its dropout stays as it is. Not in rollouts: it would ignore the cache.
            layer.training = torch.is_grad_enabled()
        if torch.is_grad_enabled():
            self.copies.drop()  # it learns: they are not needed, and will be wrong
        decoder = self._parts[0] if self._played is None else self._played.decoder
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast), nullcontext() if tree is None else reading(tree):
            out = decoder(input_ids=ids, **{name: value for name, value in options.items() if name in self._accepts or "kwargs" in self._accepts})
        if kept is not None:
            kept.cache = getattr(out, kept.name, None)
        return out.last_hidden_state.float()  # type: ignore[no-any-return]

    @property
    def reads_trees(self) -> bool:
        """Whether ``hidden`` takes trees: the architecture must allow it, and no dropout be on, which sequences would share."""
        return self._trees and self.config._attn_implementation == ATTENTION and not (self.model.training and self._drops())

    def _drops(self) -> bool:
        rates = [float(value or 0.0) for name, value in vars(self.config.get_text_config()).items() if name.endswith(("dropout", "pdrop", "dropout_rate"))]
        return any(rates) or any(isinstance(module, nn.Dropout) and module.p > 0.0 for module in self.model.modules())

    def nothing_kept(self) -> Kept:
        """Return what the model keeps of no tokens, for ``hidden``.

        Raises:
            NotSupported: It cannot keep anything.
        """
        for name in ("past_key_values", "cache_params", "state"):
            if name in self._accepts:
                return Kept(name)
        raise NotSupported(f"{self.config.model_type}: it has no cache")

    def quiet(self) -> None:
        """Turn dropout off, as sampling needs it, wherever it was turned on."""
        if self.training or self.model.training:
            self.eval()

    @property
    def vocabulary(self) -> int:
        """V, the number of logits per token."""
        return int(self._parts[1].weight.shape[0])

    @property
    def head_learns(self) -> bool:
        """Whether the output projection is trained."""
        return any(parameter.requires_grad for parameter in self._parts[1].parameters())

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits (..., V) of hidden states (..., H)."""
        logits = self._projected(hidden)
        if self._scale != 1.0:
            logits = logits * self._scale
        return self._cap * torch.tanh(logits / self._cap) if self._cap else logits

    def _projected(self, hidden: Tensor) -> Tensor:
        head = self._parts[1]
        if self._played is not None and self._played.head is not None:
            return self._played.head(hidden)  # type: ignore[no-any-return]
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

    # ---------------------------------------------------------------- playing
    @contextmanager
    def playing(self) -> Iterator[None]:
        """Use weights made for playing within the block, see ``packing.py``; there must be no pass with a gradient in it.

        The copies stay for later blocks until a pass with a gradient drops them; when weights have changed, they are made again.
        """
        self.quiet()
        before, self._played = self._played, None if sharding.is_sharded(self) else self.copies.of(*self._parts, bfloat16=self.autocast)
        try:
            yield
        finally:
            self._played = before

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
                self._frozen.append(module)

    @contextmanager
    def exact(self) -> Iterator[bool]:
        """Run in float32 within the block, and yield whether that is so: sharded weights, and those that are loaded in another precision, stay."""
        convert = self.autocast and not sharding.is_sharded(self)
        played, self._played = self._played, None
        if convert:
            self._convert(torch.float32)
            self.autocast = False
        try:
            yield not self.autocast and all(parameter.dtype == torch.float32 for parameter in self.model.parameters())
        finally:
            self._played = played
            if convert:
                self._convert(torch.bfloat16)
                self.autocast = True

    @torch.inference_mode(False)  # inference tensors cannot be used in a backward pass
    def _convert(self, dtype: torch.dtype) -> None:
        for module in self._frozen:
            module.to(dtype)

    @torch.no_grad()
    def _check_head(self) -> None:
        """Find out how the model's logits follow from its last hidden states.

        Raises:
            NotSupported: They do not, or not only.
        """
        self.eval()  # dropout differs from call to call
        ids = self._sample()
        expected = self.model(input_ids=ids, use_cache=False).logits.double()
        projected = self._projected(self.hidden(ids)).double()
        if expected.shape == projected.shape:
            text = self.config.get_text_config()
            named = [name for name in vars(text) if "logit" in name and "cap" in name and "attn" not in name and "router" not in name]
            caps = (float(getattr(text, name) or 0.0) for name in named)
            if (found := scale_and_cap(expected, projected, caps, self._close)) is not None:
                self._scale, self._cap = found
                return
        raise NotSupported(f"{self.config.model_type}: its logits are not a projection of its last hidden state, so it cannot be trained here")

    @torch.no_grad()
    def _choose_attention(self, base: Any) -> None:
        """Switch the model to the attention of this package where that gives the same."""
        ids = self._sample()
        expected = self.hidden(ids)
        try:
            base.set_attn_implementation(ATTENTION)
            same = self.config._attn_implementation == ATTENTION and self._close(self.hidden(ids), expected)
        except Exception:  # whatever an architecture's code does with a rule that it takes for a mask
            same = False
        if not same:
            self.keep_own_attention()

    @torch.no_grad()
    def _check_trees(self) -> bool:
        """Return whether the model reads trees: whether each state depends on the tokens before it on its path, and on nothing else."""
        if self.config._attn_implementation != ATTENTION:
            return False
        return says_the_same_in_a_tree(lambda ids, tree: self.hidden(ids, tree=tree), self._sample(), self._close)

    def keep_own_attention(self) -> None:
        """Let the model attend as it was loaded: then each episode needs a cache of the model's own kind."""
        base: Any = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        if self.config._attn_implementation != self.own_attention:
            base.set_attn_implementation(self.own_attention)

    def _sample(self) -> Tensor:
        """Return some token ids (1, 16)."""
        return probe_ids(16, self.vocabulary, self.device)[None]

    def _close(self, found: Tensor, expected: Tensor) -> bool:
        # Relative to the largest: the logits of random weights are small.
        tolerance = 2e-3 if all(parameter.dtype == torch.float32 for parameter in self.model.parameters()) else 2e-2
        return bool((expected - found).abs().max() <= tolerance * expected.abs().max())
