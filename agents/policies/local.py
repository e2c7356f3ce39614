"""``LMPolicy``: a language model as a policy.

It samples for a batch of episodes together, caches each episode's keys and values from step to step, and keeps token ids and
log-probabilities exactly as they were sampled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from steptool_env.env import StepToolEnv
from steptool_env.formats import CallFormat
from steptool_env.types import Malformed, Observation

from ..chat.prompts import AUTO, make_chat
from ..chat.reading import Reading, end_tokens
from ..generation.admission import Limits
from ..generation.choice import make_engine
from ..generation.constrained import Guides
from ..generation.reasoning import ReasoningBudget
from ..generation.stop_texts import StopTexts
from ..generation.writing import Writing, Written
from ..models.language_model import LanguageModel
from ..trajectory import Generation
from .tokens import next_seed
from .transcripts import Transcript, Transcripts

__all__ = ["LMPolicy"]


class LMPolicy:
    """A language model that acts.

    It takes a batch at a time (``act``), or each episode when it is ready (``submit`` and ``poll``): then tools run while the model
    writes for other episodes, and none waits for the longest action. Both give the same actions, up to rounding.

    Args:
        lm: The model.
        call_format: How it writes calls: ``"auto"``, ``"native"``, a name of ``FORMATS`` or a ``CallFormat``, see ``make_chat``.
        temperature: Of sampling; 0 takes the most likely token.
        max_new_tokens: Longest action, in tokens.
        seed: Seeds the sampling.
        token_budget: Most tokens in one forward pass over new observations: bounds memory, not what is computed.
        cache_budget: Most tokens in the cache of keys and values; beyond it, episodes wait, and are read again.
        constrained: Only valid calls of the tools on offer can be written (needs the extra ``constrained``).
        chat_template_options: Keywords of the chat template, such as ``{"enable_thinking": False}``.
        max_reasoning_tokens: Where reasoning ends that the model has not ended itself; None: it may take the whole action.

    Raises:
        InvalidArgument: ``max_reasoning_tokens`` leaves no room for a call.
    """

    def __init__(
        self,
        lm: LanguageModel,
        call_format: str | CallFormat = AUTO,
        *,
        temperature: float = 1.0,
        max_new_tokens: int = 96,
        seed: int = 0,
        token_budget: int = 16_384,
        cache_budget: int = 262_144,
        constrained: bool = False,
        chat_template_options: Mapping[str, Any] | None = None,
        max_reasoning_tokens: int | None = None,
    ) -> None:
        self.lm = lm
        ends = end_tokens(lm.config, lm.tokenizer)
        style = getattr(lm.config, "steptool_prompt", None)
        self.prompts, self.call_format, reads = make_chat(lm.tokenizer, call_format, style=style, options=chat_template_options, ends=ends)
        self.reading = Reading(lm.tokenizer, reads, ends, self.prompts.opening)
        self.limits = Limits(max_new_tokens, temperature, token_budget, cache_budget)
        self.generator = torch.Generator().manual_seed(seed)
        """Draws one seed per episode, in the order in which they begin."""
        self.seeds: deque[int] = deque()
        self.on_tokens: Callable[[int, int], None] | None = None
        """Called after each ``act`` with the numbers of tokens that were encoded and sampled."""
        self.profiler = lm.profiler
        self._stop = StopTexts(lm.tokenizer, self.call_format.stop, self.reading.ends, self.reading.text)
        self._budget = ReasoningBudget.of(max_reasoning_tokens, max_new_tokens, self.reading)
        self._guides: Guides | None = None
        if constrained:
            self._guides = Guides(lm.tokenizer, self.call_format, vocabulary=lm.vocabulary, eos=self.reading.ends)
        self._transcripts = Transcripts(self.prompts, lm.context - max_new_tokens, lm.name)
        self._envs: dict[int, StepToolEnv] = {}
        self._ready: list[tuple[int, Generation]] = []
        self._engine = self._new_engine()

    def _new_engine(self) -> Writing:
        return make_engine(self.lm, self.limits, self._stop, self._guides, self._budget)

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
        """Number of tokens that the cache has memory for now, padding included."""
        return self._engine.cache_tokens

    def forget(self) -> None:
        """Drop all running episodes; needed whenever the model's weights have changed."""
        self.lm.copies.drop()  # it notices most changes itself, but not one that is written behind autograd's back
        self._engine = self._new_engine()
        self._transcripts.clear()
        self._envs.clear()
        self._ready.clear()

    def close(self) -> None:
        """Nothing is left to end: it writes only when it is asked to."""

    def act(self, observations: Sequence[Observation], envs: Sequence[StepToolEnv]) -> list[Generation]:
        """Sample one action per observation; see ``Policy``. ``Generation.value`` is the value of the state before the action.

        Episodes that are not in the batch are forgotten.
        """
        keys = [id(env) for env in envs]
        for key in set(self._envs) - set(keys):
            self.leave(self._envs[key])
        read, wrote = self._engine.read_tokens, self._engine.written_tokens
        for observation, env in zip(observations, envs, strict=True):
            self.submit(observation, env)
        generations: dict[int, Generation] = {}
        while len(generations) < len(keys):
            generations.update((id(env), generation) for env, generation in self.poll())
        if self.on_tokens is not None:
            self.on_tokens(self._engine.read_tokens - read, self._engine.written_tokens - wrote)
        return [generations[key] for key in keys]

    def submit(self, observation: Observation, env: StepToolEnv) -> None:
        """Request an action; ``poll`` returns it. ``env`` tells apart two episodes whose transcripts are equal."""
        key = id(env)
        with self.profiler("encode"):
            transcript = self._transcripts.read(key, observation)
        self._envs[key] = env
        if transcript.new:
            self._engine.drop(key)
        # Drawn even if the episode does not fit, so that this does not change the samples of the others.
        seed = next_seed(self) if transcript.new and self.limits.temperature else 0
        if transcript.full:
            self._ready.append((key, Generation("", Malformed("", f"the context window of {self.lm.context} tokens is full"))))
            return
        guide = self._guides.start(transcript.tools) if self._guides is not None else None
        if transcript.new:
            self._engine.add(key, transcript.context, seed, guide)
        else:
            self._engine.extend(key, transcript.context, guide)

    @torch.inference_mode()
    def poll(self) -> list[tuple[StepToolEnv, Generation]]:
        """Sample one token for every submitted episode, and return the actions that are complete."""
        if not self._ready:
            with self.profiler("generate"), self.lm.playing():
                before = self._engine.read_tokens, self._engine.written_tokens
                written = self._engine.step()
                self.profiler.count("generate", self._engine.read_tokens - before[0] + self._engine.written_tokens - before[1])
                if written:
                    states = torch.stack([action.state for _, action in written])
                    values = self.lm.value_head(states, torch.stack([action.first for _, action in written])).tolist()
            with self.profiler("encode"):
                for (key, action), value in zip(written, values if written else (), strict=True):
                    assert isinstance(key, int)
                    self._ready.append((key, self._generation(self._transcripts[key], action, value)))
        ready, self._ready = self._ready, []
        return [(self._envs[key], generation) for key, generation in ready]

    def leave(self, env: StepToolEnv) -> None:
        """Forget an episode and free its row in the cache."""
        self._engine.drop(id(env))
        self._transcripts.drop(id(env))
        self._envs.pop(id(env), None)

    def _generation(self, transcript: Transcript, written: Written, value: float) -> Generation:
        answer = self.reading.answer(written.ids, transcript.tools)
        transcript.record(written.ids, ended=answer.ended)
        ids, logprobs = tuple(written.ids), tuple(written.logprobs)
        return Generation(answer.text, answer.action, tuple(transcript.context), ids, logprobs, value, answer.reasoning, written.forced)
