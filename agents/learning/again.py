"""Self-imitation: what the policy did well in the episodes of the last updates, it imitates again after each update.

A policy gradient reads an episode once or twice, as long as the policy is near the one that played. But a call that was right stays right, as in a
demonstration, so it can teach for longer. Which calls these are, the reward says: one for every step names them one by one, also those of an
episode that failed in the end; a verdict alone names whole episodes, with all detours of those that were solved.

    loss = -Σ_i w_i·log π(a_i) / Σ_i w_i      over the action tokens of as many remembered episodes as an update has

    ``"steps"``       w_i = 1 where the step's reward is positive, else 0
    ``"episodes"``    w_i = 1 in solved episodes, else 0

Source: Oh et al., "Self-Imitation Learning" (arXiv 1806.05635), which imitates an action as far as its return exceeds the value, (R - V)₊. Here the
step's own reward decides, so a reward that pays for every call, useful or not, needs ``imitate="none"``: the policy would imitate all that
it does. What it leaves out: priorities, a loss of the critic on old episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..config import LearningConfig
from ..credit.episodes import Floats
from ..parallel import processes
from ..trajectory import Trajectory, from_lines, to_lines
from .imitation import imitate
from .passes import Passes
from .relatives import relatives_together

__all__ = ["Again", "worth_imitating"]

REMEMBERED = "remembered"
"""In the state of a run: the episodes of the last updates, as lines of JSON, one text per update."""


class Again:
    """Remembers episodes and imitates what was good in them.

    Args:
        passes: Passes of the model, which is changed in place.
        learning: Uses ``imitate, memory, minibatches``.
        state: The state of the run, which is saved with every checkpoint; what it holds is remembered.
    """

    def __init__(self, passes: Passes, learning: LearningConfig, state: dict[str, Any]) -> None:
        self.passes, self.learning, self.state = passes, learning, state
        self._updates = [from_lines(text.encode("utf-8"), REMEMBERED) for text in state.get(REMEMBERED, ())]

    def __call__(self, optimizer: torch.optim.Optimizer, episodes: Sequence[Trajectory], rng: np.random.Generator) -> dict[str, float]:
        """Imitate episodes of earlier updates, then remember those of this one.

        Args:
            optimizer: From ``policy_optimizer``.
            episodes: Those of this update; so many of the remembered ones are imitated.
            rng: Draws them.

        Returns:
            ``imitation_loss``, in nats per token, the mean over ``minibatches`` optimizer steps; empty if nothing is remembered.
        """
        if self.learning.imitate == "none":
            return {}
        measured = self._imitate(optimizer, len(episodes), rng)
        good = [episode for episode in episodes if worth_imitating(episode, self.learning.imitate).any()]
        self._updates = [*self._updates, good][-self.learning.memory :]
        if processes.is_main():
            texts = self.state.get(REMEMBERED, [])
            self.state[REMEMBERED] = [*texts, to_lines(good).decode("utf-8")][-self.learning.memory :]
        return measured

    def _imitate(self, optimizer: torch.optim.Optimizer, count: int, rng: np.random.Generator) -> dict[str, float]:
        known = [episode for update in self._updates for episode in update]
        if not known:
            return {}
        chosen = rng.choice(len(known), size=min(count, len(known)), replace=False).tolist()
        order = relatives_together(chosen, [episode.task.id for episode in known])
        losses = []
        for some in np.array_split(order, min(self.learning.minibatches, len(order))):
            batch = [known[index] for index in some]
            weights = [worth_imitating(episode, self.learning.imitate) for episode in batch]
            losses.append(imitate(self.passes, optimizer, batch, weights))
        return {"imitation_loss": float(np.mean(losses))}


def worth_imitating(episode: Trajectory, which: str) -> Floats:
    """Return (T,) the weight of each step: 1 if it is worth imitating, else 0; masked steps and those without tokens are not.

    Args:
        episode: The episode, with its rewards.
        which: ``"steps"`` or ``"episodes"``.
    """
    learnable = ~episode.masked & np.array([step.generation.sampled > 0 for step in episode.steps])
    good = episode.rewards > 0.0 if which == "steps" else np.full(len(episode.steps), episode.success >= 1.0)
    weights: Floats = (learnable & good).astype(np.float64)
    return weights
