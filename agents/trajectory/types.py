"""``Generation``, ``Step`` and ``Trajectory``: a sampled action, a step with its result, and a whole episode.

A trajectory holds the exact token ids and log-probabilities of the sampling, so that training never renders or tokenizes a
text again. Every token is stored once; ``prompt_ids`` of step 0, ``token_ids`` of
step 0, ``prompt_ids`` of step 1, … joined in this order are the sequence that the model saw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steptool_env.errors import InvalidArgument
from steptool_env.types import Action, Task, Transition

from .shown import notebook_html

__all__ = ["Generation", "Step", "Trajectory"]


@dataclass(frozen=True, slots=True)
class Generation:
    """One action as a policy produced it.

    Policies that are not language models leave the three tuples empty.

    Raises:
        InvalidArgument: The numbers of ids, of log-probabilities and of weights differ, or a log-probability, the value or a weight is not finite.
    """

    text: str
    """The policy's output, verbatim."""
    action: Action
    """``text`` as parsed."""
    prompt_ids: tuple[int, ...] = ()
    """Context tokens added just before this action: the whole prompt at the first step, later only the observation since the
    previous action."""
    token_ids: tuple[int, ...] = ()
    """(L,) the sampled tokens."""
    logprobs: tuple[float, ...] = ()
    """(L,) natural logarithm of the probability with which each token was sampled; where the learner has read the episode again
    (``learning/reread.py``), of the probability that it gives the token."""
    value: float = 0.0
    """The policy's estimate of the state's value; 0 for policies without a value head."""
    reasoning: str = ""
    """What the policy wrote before its call; all of it, if there is no call."""
    forced: tuple[int, int] = (0, 0)
    """Which of ``token_ids`` the policy did not sample, but was given to end its reasoning: from, to before. Nothing is learned from them."""
    importance: tuple[float, ...] = ()
    """(L,) weight of each token in the policy's loss, if another program sampled it than the one that learns; empty: 1 each."""

    def __post_init__(self) -> None:
        if len(self.token_ids) != len(self.logprobs):
            raise InvalidArgument(f"a generation needs one log-probability per token, got {len(self.token_ids)} token ids and {len(self.logprobs)} logprobs")
        if self.importance and len(self.importance) != len(self.token_ids):
            raise InvalidArgument(f"a generation needs one weight per token, or none, got {len(self.token_ids)} token ids and {len(self.importance)} weights")
        if not all(map(math.isfinite, (*self.logprobs, self.value, *self.importance))):
            raise InvalidArgument("the log-probabilities of sampled tokens and the value must be finite; the policy's outputs hold NaN or infinity")
        if not 0 <= self.forced[0] <= self.forced[1] <= len(self.token_ids):
            raise InvalidArgument(f"forced must be a range within the {len(self.token_ids)} token ids, got {self.forced}")

    @property
    def sampled(self) -> int:
        """How many tokens the policy has sampled: these are learned from, and carry the credit of the action."""
        return len(self.token_ids) - (self.forced[1] - self.forced[0])


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an episode: the generation, the transition, and its reward."""

    generation: Generation
    transition: Transition
    parts: Mapping[str, float]
    """The named parts of the reward; all finite."""
    masked: bool = False
    """True if the infrastructure of a tool or a judge failed: training must ignore this step."""

    def __post_init__(self) -> None:
        for name, value in self.parts.items():
            if not math.isfinite(value):
                raise InvalidArgument(f"reward part {name!r} of step {self.transition.step} is {value}; every part must be finite")

    @property
    def reward(self) -> float:
        """The sum of the parts."""
        return math.fsum(self.parts.values())


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One episode, from its first step to its last. It has at least one step, and all steps are of the same task."""

    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        if not self.steps:
            raise InvalidArgument("a trajectory needs at least one step, got none")
        if len({step.transition.task.id for step in self.steps}) > 1:
            raise InvalidArgument(f"the steps of a trajectory must be of one task, got {[step.transition.task.id for step in self.steps]}")

    @property
    def task(self) -> Task:
        """The task of the episode."""
        return self.steps[0].transition.task

    @property
    def success(self) -> float:
        """The verdict on the episode, in [0, 1]; 0.0 if it has not ended."""
        outcome = self.steps[-1].transition.outcome
        return outcome.solved if outcome is not None else 0.0

    @property
    def terminated(self) -> bool:
        """Whether the agent ended the episode."""
        return self.steps[-1].transition.terminated

    @property
    def truncated(self) -> bool:
        """Whether the episode was cut off."""
        return self.steps[-1].transition.truncated

    @property
    def rewards(self) -> NDArray[np.float64]:
        """(T,) the reward of each step."""
        return np.array([step.reward for step in self.steps], dtype=np.float64)

    def _repr_html_(self) -> str:
        return notebook_html(self)

    @property
    def masked(self) -> NDArray[np.bool_]:
        """(T,) True at the steps that training must ignore."""
        return np.array([step.masked for step in self.steps], dtype=np.bool_)
