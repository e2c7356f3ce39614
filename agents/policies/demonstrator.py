"""``DemonstrationPolicy``: oracle episodes as token trajectories, for supervised learning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from steptool_env.env import StepToolEnv
from steptool_env.formats import CallFormat
from steptool_env.types import Observation, ToolCall

from ..trajectory import Generation
from .mistakes import draw_mistake
from .tokens import TokenPolicy
from .transcripts import Transcripts

__all__ = ["DemonstrationPolicy", "written"]


class DemonstrationPolicy:
    """Plays the suite's solution, written as the language model would have to write it; log-probabilities are 0.

    Args:
        policy: The policy that will learn from it; its tokenizer, prompts and call format are used.
        mistakes: Share of steps with a mistake instead, see ``mistakes.py``. A mistake's tokens are part of the context:
            what is learned is how to go on from there.
        rng: Draws the mistakes.
    """

    def __init__(self, policy: TokenPolicy, mistakes: float = 0.0, rng: np.random.Generator | None = None) -> None:
        self.mistakes, self.rng = mistakes, rng or np.random.default_rng(0)
        self.tokenizer = policy.reading.tokenizer
        self.call_format = policy.call_format
        self._transcripts = Transcripts(policy.prompts, room=None)  # the learner deals with episodes that are too long for the model

    def act(self, observations: Sequence[Observation], envs: Sequence[StepToolEnv]) -> list[Generation]:
        generations = []
        for observation, env in zip(observations, envs, strict=True):
            transcript = self._transcripts.read(id(env), observation)
            mistake = draw_mistake(env, self.call_format, self.rng) if self.mistakes and self.rng.random() < self.mistakes else None
            if mistake is not None:
                text, ids, ended = _with_end(mistake, self.call_format, self.tokenizer)
                generation = Generation(text, self.call_format.parse(text), (*transcript.context, *ids))
            else:
                call = env.solution()[0]
                text, ids, ended = written(call, self.call_format, self.tokenizer)
                generation = Generation(text, call, tuple(transcript.context), tuple(ids), (0.0,) * len(ids))
            transcript.record(ids, ended=ended)
            generations.append(generation)
        return generations


def written(call: ToolCall, call_format: CallFormat, tokenizer: PreTrainedTokenizerBase) -> tuple[str, list[int], bool]:
    """Return a call as a model has to write it: text, token ids, and whether the last id is the end-of-turn token."""
    return _with_end(call_format.render(call), call_format, tokenizer)


def _with_end(text: str, call_format: CallFormat, tokenizer: PreTrainedTokenizerBase) -> tuple[str, list[int], bool]:
    # A format whose calls end with their own stop text needs no end-of-turn token to stop the sampling.
    ended = not call_format.render(ToolCall("f")).endswith(call_format.stop)
    return text, [*tokenizer.encode(text, add_special_tokens=False), *[tokenizer.eos_token_id] * ended], ended
