"""Demonstrations: oracle episodes as token trajectories, for supervised learning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from steptool_env.env import StepToolEnv
from steptool_env.formats import CallFormat
from steptool_env.types import Observation, ToolCall

from ..chat.base import Prompts
from ..trajectory import Generation
from .local import LMPolicy
from .mistakes import draw_mistake
from .served import ServedPolicy

__all__ = ["DemonstrationPolicy", "written"]


class DemonstrationPolicy:
    """Plays the suite's solution, written as the language model would have to write it; log-probabilities are 0.

    Args:
        policy: The policy that is to learn from it: its tokenizer, prompts and call format are used.
        mistakes: Share of steps in which it makes a mistake instead, see ``mistakes.py``. A mistake's tokens are part of
            the context: what is to be learnt is how to go on from there.
        rng: Draws the mistakes.
    """

    def __init__(self, policy: LMPolicy | ServedPolicy, mistakes: float = 0.0, rng: np.random.Generator | None = None) -> None:
        self.mistakes, self.rng = mistakes, rng or np.random.default_rng(0)
        self.prompts: Prompts = policy.prompts
        self.tokenizer = policy.lm.tokenizer
        self.call_format = policy.call_format
        self._seen: dict[int, tuple[int, str]] = {}

    def act(self, observations: Sequence[Observation], envs: Sequence[StepToolEnv]) -> list[Generation]:
        generations = []
        for observation, env in zip(observations, envs, strict=True):
            messages = observation["messages"]
            if len(messages) == 1:
                context = self.prompts.prompt(observation)
            else:
                seen, tools = self._seen[id(env)]
                changed = observation["tools"] if observation["tools"] != tools else ""
                context = self.prompts.extend(messages[seen + 1 :], changed, ended=self._ends_with_eos)
            self._seen[id(env)] = (len(messages), observation["tools"])
            slip = draw_mistake(env, self.call_format, self.rng) if self.mistakes and self.rng.random() < self.mistakes else None
            if slip is not None:
                ids = self.tokenizer.encode(slip, add_special_tokens=False) + [self.tokenizer.eos_token_id] * self._ends_with_eos
                generations.append(Generation(slip, self.call_format.parse(slip), (*context, *ids)))
                continue
            call = env.solution()[0]
            text, ids, _ = written(call, self.call_format, self.tokenizer)
            generations.append(Generation(text, call, tuple(context), tuple(ids), (0.0,) * len(ids)))
        return generations

    @property
    def _ends_with_eos(self) -> bool:
        return _ends_with_eos(self.call_format)


def written(call: ToolCall, call_format: CallFormat, tokenizer: PreTrainedTokenizerBase) -> tuple[str, list[int], bool]:
    """Return a call as a model has to write it: text, token ids, and whether the last of these is the end-of-turn token."""
    text, ended = call_format.render(call), _ends_with_eos(call_format)
    return text, [*tokenizer.encode(text, add_special_tokens=False), *[tokenizer.eos_token_id] * ended], ended


def _ends_with_eos(call_format: CallFormat) -> bool:
    # A format whose calls end with their own stop text needs no end-of-turn token to stop the sampling.
    return not call_format.render(ToolCall("f")).endswith(call_format.stop)
