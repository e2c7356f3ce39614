"""``LanguageModel`` and ``LMPolicy``: any causal language model of ``transformers`` as a policy.

The policy samples for a batch of episodes together, keeps each episode's keys and values from step to step, and keeps
token ids and log-probabilities exactly as they were sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from steptool_env.env import StepToolEnv
from steptool_env.errors import NotSupported
from steptool_env.formats import CallFormat, make_format
from steptool_env.types import Malformed, Message, Observation

from .cache import SlotCache
from .critic import ValueHead, mean_over_first
from .prompts import Prompts, make_prompts
from .trajectory import Generation

__all__ = ["LMPolicy", "LanguageModel"]

STRAGGLERS = 0.3
"""When only this share of a batch still writes, the others leave it: below that, copying the rows that go on costs less
than computing those that do not."""


class LanguageModel(nn.Module):
    """A causal language model with its tokenizer and a value head that reads the same hidden states.

    Args:
        model: A ``transformers`` causal LM, or a ``peft`` model around one.
        tokenizer: Its tokenizer.
        bfloat16: Run the forward passes under autocast to bfloat16; weights stay as they are.

    Raises:
        NotSupported: The model's logits are not a plain projection of its last hidden state, or it attends to a window.
    """

    def __init__(self, model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, *, bfloat16: bool = False) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.autocast = bfloat16
        base: Any = model.get_base_model() if isinstance(model, PeftModel) else model  # its adapters stay in place
        self._parts: tuple[Any, Any] = (base.get_decoder(), base.get_output_embeddings())  # a tuple: registered once, in model
        self.config = base.config
        width = self.config.hidden_size
        self.value_head = ValueHead(width).to(self.device)
        kinds = getattr(self.config, "layer_types", None) or ["sliding"] * (getattr(self.config, "sliding_window", None) is not None)
        if any(kind != "full_attention" for kind in kinds):
            raise NotSupported(f"{self.config.model_type}: layers with a sliding window are not supported by the rollout cache")
        attention = getattr(self.config, "_attn_implementation", "eager")
        if attention not in ("sdpa", "eager"):
            raise NotSupported(f"attention {attention!r} takes no mask per row; load the model with attn_implementation='sdpa'")
        self.boolean_masks = attention == "sdpa"  # "eager" adds the mask to the scores
        self._check_head()

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def context(self) -> int:
        """The longest sequence that the model takes, in tokens."""
        return int(self.config.max_position_embeddings)

    def hidden(self, ids: Tensor, **options: Any) -> Tensor:
        """Return the last hidden states (B, L, H) in float32 for token ids (B, L)."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            return self._parts[0](input_ids=ids, **options).last_hidden_state.float()  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits (..., V) of hidden states (..., H)."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            return self._parts[1](hidden.to(self._parts[1].weight.dtype))  # type: ignore[no-any-return]

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return the parameters that training changes, by name, the value head included."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    @contextmanager
    def swapped(self, weights: dict[str, Tensor]) -> Iterator[None]:
        """Put other weights into the trainable parameters for a while, such as the reference policy's: no second model."""
        parameters = self.trainable()
        current = {name: parameters[name].data for name in weights}
        try:
            for name, weight in weights.items():
                parameters[name].data = weight
            yield
        finally:
            for name, weight in current.items():
                parameters[name].data = weight

    @torch.no_grad()
    def _check_head(self) -> None:
        ids = torch.arange(2, 6, device=self.device)[None]
        training = self.training
        self.eval()  # dropout differs from call to call
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            expected = self.model(input_ids=ids).logits.float()
        got = self.logits(self.hidden(ids)).float()
        self.train(training)
        # Relative to the logits: those of random weights are small.
        if (expected - got).abs().max() > 0.02 * expected.abs().max():
            raise NotSupported(f"{self.config.model_type}: its logits are not a plain projection of its last hidden state")


@dataclass(slots=True)
class _Slot:
    """What the policy remembers of one running episode."""

    messages: tuple[Message, ...]
    tools: str
    pending: list[int] = field(default_factory=list)
    """The last sampled token: it is encoded together with the observation that follows it."""
    ended: bool = False
    task: Tensor | None = None
    """(H,) mean hidden state over the first observation: what the value head knows of the task."""
    full: bool = False
    """The context window is used up: the episode gets no further token, also if a shorter observation would fit again."""


class LMPolicy:
    """A language model that acts.

    Args:
        lm: The model.
        call_format: How it writes calls: a name or a ``CallFormat``.
        temperature: Of sampling; 0 takes the most likely token.
        max_new_tokens: Longest action, in tokens.
        seed: Seeds the sampling.
        token_budget: Most tokens in one forward pass over new observations: bounds memory, not what is computed.
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
    ) -> None:
        self.lm = lm
        self.call_format = make_format(call_format)
        self.prompts: Prompts = make_prompts(lm.tokenizer, self.call_format, getattr(lm.config, "steptool_prompt", None))
        self.temperature, self.max_new_tokens, self.token_budget = temperature, max_new_tokens, token_budget
        self.generator = torch.Generator(device=lm.device).manual_seed(seed)
        self.on_tokens: Callable[[int, int], None] | None = None
        """Called after each batch of actions with the numbers of tokens read and written."""
        self._cache = SlotCache()
        self._slots: dict[int, _Slot] = {}
        self._places: dict[int, int] = {}
        eos = lm.config.eos_token_id
        self._eos = set(eos if isinstance(eos, list) else [eos] if eos is not None else []) | {lm.tokenizer.eos_token_id}
        single = [lm.tokenizer.encode(text, add_special_tokens=False) for text in self.call_format.stop]
        self._stop_ids = self._eos | {ids[0] for ids in single if len(ids) == 1}
        self._stop_texts = [text for text, ids in zip(self.call_format.stop, single, strict=True) if len(ids) > 1]
        self._tail = max((len(text.encode()) for text in self._stop_texts), default=0)  # a token holds one byte at least
        self._may_stop: dict[int, bool] = {}
        """Whether a token can complete a stop text; filled as tokens turn up."""

    def forget(self) -> None:
        """Drop all running episodes; needed whenever the model's weights have changed."""
        self._cache = SlotCache()
        self._slots.clear()
        self._places.clear()

    @torch.inference_mode()
    def act(self, observations: Sequence[Observation], envs: Sequence[StepToolEnv]) -> list[Generation]:
        """Sample one action per observation; see ``Policy``. ``Generation.value`` is the value of the state it acts in."""
        keys = [id(env) for env in envs]
        contexts: list[list[int]] = []
        rows: list[int] = []
        slots: dict[int, _Slot] = {}
        for key, observation in zip(keys, observations, strict=True):
            messages, slot = observation["messages"], self._slots.get(key)
            known = len(slot.messages) + 1 if slot is not None else 0  # the messages seen, and the action itself
            if slot is not None and len(messages) > known and messages[: known - 1] == slot.messages:
                tools = observation["tools"] if observation["tools"] != slot.tools else ""
                contexts.append(self.prompts.extend(messages[known:], tools, ended=slot.ended))
                rows.append(self._places[key])
                slots[key] = _Slot(messages, observation["tools"], slot.pending, slot.ended, slot.task, slot.full)
            else:
                contexts.append(self.prompts.prompt(observation))
                rows.append(-1)
                slots[key] = _Slot(messages, observation["tools"])
        self._cache.arrange(rows)
        self._slots, self._places = slots, {key: place for place, key in enumerate(keys)}
        fits = self._room(contexts, keys)
        hidden, means = self._read([slots[key].pending + context if fit else [] for key, context, fit in zip(keys, contexts, fits, strict=True)])
        for key, mean in zip(keys, means, strict=True):
            if slots[key].task is None:
                slots[key].task = mean
        values = self.lm.value_head(hidden, torch.stack([slots[key].task for key in keys])).tolist()  # type: ignore[misc]  # none is None
        sampled, logprobs = self._write(hidden, fits)
        if self.on_tokens is not None:
            self.on_tokens(sum(map(len, contexts)), sum(map(len, sampled)))
        generations = []
        for row, key in enumerate(keys):
            ids = sampled[row]
            if not fits[row]:
                slots[key].full = True
                generations.append(Generation("", Malformed("", f"the context window of {self.lm.context} tokens is full")))
                continue
            slots[key].pending, slots[key].ended = ids[-1:], ids[-1] in self._eos
            text = self._decode(ids[:-1] if slots[key].ended else ids)
            generations.append(Generation(text, self.call_format.parse(text), tuple(contexts[row]), tuple(ids), tuple(logprobs[row]), values[row]))
        return generations

    def _room(self, contexts: Sequence[list[int]], keys: Sequence[int]) -> list[bool]:
        limit = self.lm.context - self.max_new_tokens
        fits = []
        for length, key, context in zip(self._cache.lengths.tolist(), keys, contexts, strict=True):
            slot = self._slots[key]
            fits.append(not slot.full and length + len(slot.pending) + len(context) <= limit)
        return fits

    def _read(self, feeds: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Append tokens to every row; return the hidden states (rows, H) after the last one of each, and the means over them.

        A row that gets none has states that mean nothing.
        """
        last: list[Tensor] = []
        means: list[Tensor] = []
        begin = 0
        while begin < len(feeds):
            end, widest = begin, 0
            while end < len(feeds):
                widest = max(widest, len(feeds[end]))
                if end > begin and (end + 1 - begin) * widest > self.token_budget:
                    break
                end += 1
            part = feeds[begin:end]
            width = max(1, *map(len, part))
            ids = torch.zeros(len(part), width, dtype=torch.long)
            for row, feed in enumerate(part):
                ids[row, : len(feed)] = torch.tensor(feed, dtype=torch.long)
            counts = torch.tensor([len(feed) for feed in part])
            hidden = self._forward(ids, slice(begin, end), counts)
            last.append(hidden[torch.arange(len(part), device=hidden.device), (counts - 1).clamp(min=0).to(hidden.device)])
            means.append(mean_over_first(hidden, counts.to(hidden.device)))
            begin = end
        return torch.cat(last), torch.cat(means)

    def _write(self, hidden: Tensor, fits: Sequence[bool]) -> tuple[list[list[int]], list[list[float]]]:
        """Sample until every row has ended its action; return token ids and log-probabilities per row."""
        sampled: list[list[int]] = [[] for _ in fits]
        logprobs: list[list[float]] = [[] for _ in fits]
        rows = list(range(len(hidden)))  # in the batch; it shrinks when most of them have ended
        running = list(fits)
        for position in range(self.max_new_tokens):
            tokens, chosen = self._sample(self.lm.logits(hidden).float())
            for row, token, logprob in zip(rows, tokens.tolist(), chosen.tolist(), strict=True):
                if running[row]:
                    sampled[row].append(token)
                    logprobs[row].append(logprob)
                    running[row] = not self._ends(sampled[row])
            left = [place for place, row in enumerate(rows) if running[row]]
            if not left or position == self.max_new_tokens - 1:
                break
            tokens = tokens.cpu()
            if len(left) <= STRAGGLERS * len(rows):
                rows, tokens = [rows[place] for place in left], tokens[left]
            # A row that has ended writes its token again and again to the same place, where it is overwritten later.
            counts = torch.tensor([running[row] for row in rows], dtype=torch.long)
            hidden = self._forward(tokens[:, None], slice(0, len(fits)) if len(rows) == len(fits) else torch.tensor(rows), counts)[:, 0]
        return sampled, logprobs

    def _ends(self, ids: list[int]) -> bool:
        if ids[-1] in self._stop_ids:
            return True
        if not self._stop_texts or not self._can_complete_a_stop(ids[-1]):
            return False
        tail = self._decode(ids[-self._tail :])
        return any(text in tail for text in self._stop_texts)

    def _can_complete_a_stop(self, token: int) -> bool:
        # Only a token that holds the last character of a stop text: for all others the tail need not be decoded. A part of
        # a character of several bytes decodes to the replacement character, and may be any of them.
        if token not in self._may_stop:
            piece = self._decode([token])
            self._may_stop[token] = any(text[-1] in piece for text in self._stop_texts) or "\ufffd" in piece
        return self._may_stop[token]

    def _decode(self, ids: list[int]) -> str:
        return str(self.lm.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _sample(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        if self.temperature == 0:
            logprobs = torch.log_softmax(logits, dim=-1)
            tokens = logprobs.argmax(dim=-1)
        else:
            logprobs = torch.log_softmax(logits / self.temperature, dim=-1)
            # Gumbel-max: one pass and no cumulative sum over the vocabulary.
            noise = torch.empty_like(logprobs).exponential_(generator=self.generator)
            tokens = (logprobs - noise.log()).argmax(dim=-1)
        return tokens, logprobs.gather(-1, tokens[:, None]).squeeze(-1)

    def _forward(self, ids: Tensor, rows: slice | Tensor, counts: Tensor) -> Tensor:
        positions, mask = self._cache.place(rows, counts, ids.shape[1], self.lm.device)
        positions = positions.clamp(max=self.lm.context - 1)  # padding may lie beyond: a learnt table has no such position
        if not self.lm.boolean_masks:
            mask = torch.where(mask, 0.0, torch.finfo(torch.float32).min)
        return self.lm.hidden(ids.to(self.lm.device), position_ids=positions, attention_mask=mask, past_key_values=self._cache, use_cache=True)
