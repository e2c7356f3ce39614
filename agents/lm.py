"""``LanguageModel`` and ``LMPolicy``: any causal language model of ``transformers`` as a policy.

The policy samples for a batch of episodes together, keeps each episode's keys and values from step to step, and keeps
token ids and log-probabilities exactly as they were sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.nn.functional as F
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_layers import GradientCheckpointingLayer

from steptool_env.env import StepToolEnv
from steptool_env.errors import NotSupported
from steptool_env.formats import CallFormat, make_format
from steptool_env.types import Malformed, Message, Observation

from . import distributed, sharding
from .attention import ATTENTION
from .critic import ValueHead
from .engine import Engine, Limits, Written
from .profiling import Profiler
from .prompts import Prompts, make_prompts
from .recompute import recompute as recomputed_layers
from .trajectory import Generation

if TYPE_CHECKING:
    from .constrained import Guides

__all__ = ["LMPolicy", "LanguageModel"]

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
        self._recomputed = recomputed_layers(base, recompute)

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
            layer.training = True  # the layer alone: only then it recomputes, and its dropout stays as it is
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
        missing = distributed.most(len(mine)) - len(mine)
        yield from mine
        for _ in range(missing):
            nothing = 0.0 * self.hidden(torch.zeros(1, 1, dtype=torch.int64, device=self.device)).sum()
            if nothing.requires_grad:
                nothing.backward()
        sharding.reshard(self)

    @torch.no_grad()
    def _check_head(self, base: Any) -> None:
        """Compare with the model's own attention and head; the model has the attention of this package afterwards."""
        ids = torch.arange(2, 6, device=self.device)[None]
        training, autocast = self.training, self.autocast
        self.eval()  # dropout differs from call to call
        self.autocast = False  # thirty layers of bfloat16 differ by more than the tolerance in how they are rounded alone
        expected = self.model(input_ids=ids).logits.float()
        base.set_attn_implementation(ATTENTION)
        if self.config._attn_implementation != ATTENTION:
            raise NotSupported(f"{self.config.model_type}: its attention cannot be chosen, so its cache cannot be shared between episodes")
        self._recomputed = []
        got = self.logits(self.hidden(ids)).float()
        self.autocast = autocast
        self.train(training)
        # Relative to the logits: those of random weights are small.
        if (expected - got).abs().max() > 0.02 * expected.abs().max():
            raise NotSupported(f"{self.config.model_type}: its logits are not a plain projection of its last hidden state")


@dataclass(slots=True)
class _Talk:
    """What the policy remembers of one running episode."""

    messages: tuple[Message, ...]
    tools: str
    context: list[int]
    """What the model reads before its next action."""
    ended: bool = False
    """Its last action ended with the end-of-turn token."""
    full: bool = False
    """The context window is used up: the episode gets no further token, also if a shorter observation would fit again."""


class LMPolicy:
    """A language model that acts.

    Either a batch at a time (``act``), or each episode when it is ready (``submit`` and ``poll``): then tools run while the
    model writes for others, and nobody waits for the longest action. Both give the same actions, up to the rounding of sums.

    Args:
        lm: The model.
        call_format: How it writes calls: a name or a ``CallFormat``.
        temperature: Of sampling; 0 takes the most likely token.
        max_new_tokens: Longest action, in tokens.
        seed: Seeds the sampling.
        token_budget: Most tokens in one forward pass over new observations: bounds memory, not what is computed.
        cache_budget: Most tokens in the cache of keys and values; beyond it, episodes wait, and are read again.
        constrained: Only valid calls of the tools on offer can be written (needs the extra ``constrained``).
    """

    def __init__(
        self,
        lm: LanguageModel,
        call_format: str | CallFormat = "hermes",
        *,
        temperature: float = 1.0,
        max_new_tokens: int = 96,
        seed: int = 0,
        token_budget: int = 16_384,
        cache_budget: int = 262_144,
        constrained: bool = False,
    ) -> None:
        self.lm = lm
        self.call_format = make_format(call_format)
        self.prompts: Prompts = make_prompts(lm.tokenizer, self.call_format, getattr(lm.config, "steptool_prompt", None))
        self.limits = Limits(max_new_tokens, temperature, token_budget, cache_budget)
        self.generator = torch.Generator().manual_seed(seed)
        """Draws one seed per episode, in the order in which they begin."""
        self.on_tokens: Callable[[int, int], None] | None = None
        """Called after each batch of actions with the numbers of tokens encoded before them and written."""
        self.profiler = lm.profiler
        eos = lm.config.eos_token_id
        self._eos = set(eos if isinstance(eos, list) else [eos] if eos is not None else []) | {lm.tokenizer.eos_token_id}
        self._stop = StopTexts(lm.tokenizer, self.call_format.stop, self._eos)
        self._guides: Guides | None = None
        if constrained:
            from .constrained import Guides

            self._guides = Guides(lm.tokenizer, self.call_format, vocabulary=lm.vocabulary, eos=self._eos)
        self._talks: dict[int, _Talk] = {}
        self._envs: dict[int, StepToolEnv] = {}
        self._ready: list[tuple[int, Generation]] = []
        self._engine = self._new_engine()

    def _new_engine(self) -> Engine:
        return Engine(self.lm, self.limits, self._stop, self._guides)

    @property
    def temperature(self) -> float:
        """Of sampling."""
        return self.limits.temperature

    @property
    def max_new_tokens(self) -> int:
        """Longest action, in tokens."""
        return self.limits.max_new_tokens

    @property
    def cache_tokens(self) -> int:
        """Tokens that the cache has memory for now, padding included."""
        return self._engine.cache.tokens

    def forget(self) -> None:
        """Drop all running episodes; needed whenever the model's weights have changed."""
        self._engine = self._new_engine()
        self._talks.clear()
        self._envs.clear()
        self._ready.clear()

    def act(self, observations: Sequence[Observation], envs: Sequence[StepToolEnv]) -> list[Generation]:
        """Sample one action per observation; see ``Policy``. ``Generation.value`` is the value of the state it acts in.

        Episodes that are not among them are forgotten.
        """
        keys = [id(env) for env in envs]
        for key in set(self._talks) - set(keys):
            self.leave(self._envs[key])
        read, wrote = self._engine.read_tokens, self._engine.written_tokens
        for observation, env in zip(observations, envs, strict=True):
            self.submit(observation, env)
        found: dict[int, Generation] = {}
        while len(found) < len(keys):
            found.update((id(env), generation) for env, generation in self.poll())
        if self.on_tokens is not None:
            self.on_tokens(self._engine.read_tokens - read, self._engine.written_tokens - wrote)
        return [found[key] for key in keys]

    def submit(self, observation: Observation, env: StepToolEnv) -> None:
        """Ask for an action; ``poll`` will give it. ``env`` tells two episodes apart whose transcripts are equal."""
        key, messages, tools = id(env), observation["messages"], observation["tools"]
        talk = self._talks.get(key)
        known = len(talk.messages) + 1 if talk is not None else 0  # the messages seen, and the action itself
        new = talk is None or len(messages) <= known or messages[: known - 1] != talk.messages
        with self.profiler("encode"):
            if new:
                context = self.prompts.prompt(observation)
                self._talks[key] = talk = _Talk(messages, tools, context)
                self._engine.drop(key)
            else:
                assert talk is not None
                context = self.prompts.extend(messages[known:], tools if tools != talk.tools else "", ended=talk.ended)
                talk.messages, talk.tools, talk.context = messages, tools, context
        assert talk is not None
        self._envs[key] = env
        # Drawn for each episode, read or not: whether one fits must not change what the others say.
        seed = int(torch.randint(2**62, (), generator=self.generator)) if new and self.limits.temperature else 0
        length = self._engine.length(key) if key in self._engine else 0
        talk.full = talk.full or length + len(context) > self.lm.context - self.limits.max_new_tokens
        if talk.full:
            self._ready.append((key, Generation("", Malformed("", f"the context window of {self.lm.context} tokens is full"))))
            return
        guide = self._guides.start(tools) if self._guides is not None else None
        if new:
            self._engine.add(key, context, seed, guide)
        else:
            self._engine.extend(key, context, guide)

    @torch.inference_mode()
    def poll(self) -> list[tuple[StepToolEnv, Generation]]:
        """Go on by one token for everybody who was submitted, and return the actions that are complete."""
        if not self._ready:
            with self.profiler("generate"):
                before = self._engine.read_tokens, self._engine.written_tokens
                written = self._engine.step()
                self.profiler.count("generate", self._engine.read_tokens - before[0] + self._engine.written_tokens - before[1])
                if written:
                    states = torch.stack([one.state for _, one in written])
                    values = self.lm.value_head(states, torch.stack([one.first for _, one in written])).tolist()
            with self.profiler("encode"):
                for (key, one), value in zip(written, values if written else (), strict=True):
                    assert isinstance(key, int)
                    self._ready.append((key, self._generation(self._talks[key], one, value)))
        ready, self._ready = self._ready, []
        return [(self._envs[key], generation) for key, generation in ready]

    def leave(self, env: StepToolEnv) -> None:
        """Forget an episode: its room in the cache is free."""
        self._engine.drop(id(env))
        self._talks.pop(id(env), None)
        self._envs.pop(id(env), None)

    def _generation(self, talk: _Talk, one: Written, value: float) -> Generation:
        talk.ended = one.ids[-1] in self._eos
        text = self._stop.decode(one.ids[:-1] if talk.ended else one.ids)
        return Generation(text, self.call_format.parse(text), tuple(talk.context), tuple(one.ids), tuple(one.logprobs), value)


class StopTexts:
    """Says whether the tokens written so far are a whole action: an end-of-turn token, or a stop text at their end.

    Args:
        tokenizer: The model's.
        texts: The call format's stop texts.
        eos: The end-of-turn tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], eos: set[int]) -> None:
        self.tokenizer = tokenizer
        single = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
        self._ids = eos | {ids[0] for ids in single if len(ids) == 1}
        self._texts = [text for text, ids in zip(texts, single, strict=True) if len(ids) > 1]
        self._tail = max((len(text.encode()) for text in self._texts), default=0)  # a token holds one byte at least
        self._may_stop: dict[int, bool] = {}
        """Whether a token can complete a stop text; filled as tokens turn up."""

    def __call__(self, ids: list[int]) -> bool:
        if ids[-1] in self._ids:
            return True
        if not self._texts or not self._can_complete(ids[-1]):
            return False
        tail = self.decode(ids[-self._tail :])
        return any(text in tail for text in self._texts)

    def _can_complete(self, token: int) -> bool:
        # Only a token that holds the last character of a stop text: for all others the tail need not be decoded. A part of
        # a character of several bytes decodes to the replacement character, and may be any of them.
        if token not in self._may_stop:
            piece = self.decode([token])
            self._may_stop[token] = any(text[-1] in piece for text in self._texts) or "\ufffd" in piece
        return self._may_stop[token]

    def decode(self, ids: list[int]) -> str:
        """Return the text of tokens, special ones included."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
