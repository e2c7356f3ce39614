"""The warm start of a run: what of the demonstrations is learnt, and what is said of the rest."""

from __future__ import annotations

import io
import math

import pytest
from lms import language_model, passes
from rich.console import Console
from rich.progress import Progress
from toy import Counting

from steptool_agents.config import Config
from steptool_agents.learning.batches import length
from steptool_agents.policies.demonstrator import DemonstrationPolicy
from steptool_agents.policies.local import LMPolicy
from steptool_agents.rollouts.collect import rollout
from steptool_agents.runs.warm_start import imitate_oracle
from steptool_env import Episode, StepToolEnv, Task, ToolCall
from steptool_env.errors import InvalidArgument


class Unsolvable(Counting):
    def solution(self, task: Task, episode: Episode) -> list[ToolCall]:
        return []


def warmed(suite: Counting, context: int) -> tuple[float, str]:
    """Return the loss, and what the console shows."""
    lm, text = language_model("gpt2", context=context), io.StringIO()
    policy = LMPolicy(lm, "hermes", max_new_tokens=12)
    config = Config.of(demos=8, demo_epochs=1, demo_mistakes=0.0, model="gpt2")
    loss = imitate_oracle(passes(lm, config), policy, suite, config, Progress(console=Console(file=text, width=1000)))
    return loss, text.getvalue()


def lengths(suite: Counting) -> list[int]:
    policy = LMPolicy(language_model("gpt2"), "hermes")
    return [length(one) for one in rollout(DemonstrationPolicy(policy), [StepToolEnv(suite)], list(range(len(suite))))]


def test_demonstrations_that_are_longer_than_the_context_are_left_out_and_counted() -> None:
    suite = Counting(8)
    sizes = sorted(lengths(suite))
    assert "demonstrations" not in warmed(suite, sizes[-1])[1]
    loss, said = warmed(suite, sizes[4])  # learned positions: one token more would have no embedding
    assert math.isfinite(loss)
    assert f"3 of 8 demonstrations cannot be learned from: their task has no solution, or they are longer than the model's context of {sizes[4]} tokens" in said
    assert f"(the longest has {sizes[-1]})" in said
    with pytest.raises(InvalidArgument, match=r"8 of 8 demonstrations cannot be learned from.*choose a model with a longer context"):
        warmed(suite, sizes[0] - 1)


def test_tasks_without_a_solution_leave_nothing_to_learn() -> None:
    with pytest.raises(InvalidArgument, match=r"their task has no solution"):
        warmed(Unsolvable(8), 2048)
