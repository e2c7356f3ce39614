"""``DemonstrationPolicy``: oracle episodes as token trajectories, for supervised learning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from steptool_env.env import StepToolEnv
from steptool_env.scripted import GIVE_UP
from steptool_env.types import Observation

from ..chat.base import Written
from ..trajectory import Generation
from .mistakes import draw_mistake
from .tokens import TokenPolicy
from .transcripts import Transcripts

__all__ = ["DemonstrationPolicy"]


class DemonstrationPolicy:
    """Plays the suite's solution, written as the language model would have to write it; log-probabilities are 0.

    Args:
        policy: The policy that will learn from it; its tokenizer, prompts and call format are used.
        mistakes: Share of steps with a mistake instead, see ``mistakes.py``. A mistake's tokens are part of the context:
            what is learned is how to go on from there. Where the state of the tools cannot be copied no mistake is tried.
        rng: Draws the mistakes.
    """

    def __init__(self, policy: TokenPolicy, mistakes: float = 0.0, rng: np.random.Generator | None = None) -> None:
        self.mistakes, self.rng = mistakes, rng or np.random.default_rng(0)
        self.policy = policy
        self._transcripts = Transcripts(policy.prompts, room=None)  # who learns leaves out what is too long for the model

    def act(self, observations: Sequence[Observation], envs: Sequence[StepToolEnv]) -> list[Generation]:
        """Return one generation per observation; see ``Policy``."""
        policy, generations = self.policy, []
        for observation, env in zip(observations, envs, strict=True):
            transcript = self._transcripts.read(id(env), observation)
            mistake = draw_mistake(env, policy.call_format, self.rng) if self._errs(env) else None
            solution = env.solution() if mistake is None else []
            if mistake is not None:
                text, ids, ended = Written.of(mistake, policy.call_format, policy.prompts.control)
                generation = Generation(text, policy.call_format.parse(text, prefix=policy.prompts.opening), (*transcript.context, *ids))
            elif solution:
                text, ids, ended = policy.prompts.write(solution[0])
                generation = Generation(text, solution[0], tuple(transcript.context), tuple(ids), (0.0,) * len(ids))
            else:  # the suite says that the task cannot be solved: an end from which nothing is learned
                text, ids, ended = policy.prompts.write(GIVE_UP)
                generation = Generation(text, GIVE_UP, (*transcript.context, *ids))
            transcript.record(ids, ended=ended)
            generations.append(generation)
        return generations

    def _errs(self, env: StepToolEnv) -> bool:
        return bool(self.mistakes) and env.suite.can_snapshot and self.rng.random() < self.mistakes
