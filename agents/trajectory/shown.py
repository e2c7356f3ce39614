"""An episode in words and as HTML: what the policy wrote, what came back, what each step earned, how it ended.

A trajectory keeps token ids but no tokenizer, so texts are shown as sampled, without the boundaries of tokens.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from steptool_env.html import ShownStep, episode_body, fragment
from steptool_env.rendering import shortened
from steptool_env.types import Malformed
from steptool_env.words import action_text, earned, kind_of_error, verdict

if TYPE_CHECKING:
    from .types import Step, Trajectory

__all__ = ["call_text", "conclusion", "ending", "executed", "labels", "notebook_html", "shown_steps", "step_earned", "total_reward"]


def labels(trajectory: Trajectory) -> list[str]:
    """Return the tags of the task as a report writes them: ``["depth=4", "family=lookup"]``."""
    return [f"{name}={value}" for name, value in trajectory.task.tags.items()]


def ending(trajectory: Trajectory) -> str:
    """Return how an episode ended, in a word: solved, its share of success, failed, out of calls, cut off (by a fault), or open."""
    if trajectory.success >= 1.0:
        return "solved"
    if trajectory.success > 0.0:
        return f"{trajectory.success:.2f}"
    if trajectory.truncated:
        return "cut off" if trajectory.steps[-1].masked else "out of calls"
    return "failed" if trajectory.terminated else "open"


def total_reward(trajectory: Trajectory) -> float | None:
    """Return the sum of the rewards; None if all of them are missing, which differs from 0."""
    return None if trajectory.masked.all() else float(sum(trajectory.rewards))


def conclusion(trajectory: Trajectory) -> str:
    """Return how an episode ended, and its reward."""
    text = verdict(trajectory.steps[-1].transition.outcome, len(trajectory.steps), total_reward(trajectory))
    how = ending(trajectory)
    return f"{text} {how.capitalize()}." if how in ("cut off", "out of calls", "open") else text


def call_text(step: Step) -> str:
    """Return what the policy wrote, verbatim; if the file has no text, the call as JSON."""
    return step.generation.text or action_text(step.generation.action)


def executed(step: Step) -> list[str]:
    """Return one line with the executed action if it differs from the action that was parsed; else none."""
    action = step.transition.action
    return [f"executed: {action_text(action)}"] if action != step.generation.action else []


def step_earned(step: Step, total: float, trajectory: Trajectory) -> str:
    """Return in words what a step earned; parts of the reward that are 0 are left out.

    Args:
        step: The step.
        total: Sum of the rewards up to and including this step.
        trajectory: Its episode. If all values are 0, the policy has no value head, and none is shown.
    """
    transition = step.transition
    if step.masked:
        text = f"reward missing (masked); so far {total:+.3f}; progress {transition.progress:.0%}"
    else:
        text = earned(step.reward, {name: value for name, value in step.parts.items() if value}, total, transition.progress)
    valued = any(played.generation.value for played in trajectory.steps)
    return f"{text}; value {step.generation.value:+.3f}" if valued else text


def shown_steps(trajectory: Trajectory, most: int | None = None, most_tokens: int | None = None) -> list[ShownStep]:
    """Return the steps as a page shows them.

    Args:
        trajectory: The episode.
        most: Most characters of a text; None: all.
        most_tokens: How many tokens of a step get a square; None: all.
    """

    def cut(text: str) -> str:
        return text if most is None else shortened(text, most)

    total, found = 0.0, []
    for step in trajectory.steps:
        total += step.reward
        result, generation = step.transition.result, step.generation
        chances = [math.exp(min(logprob, 0.0)) for logprob in generation.logprobs[:most_tokens]]
        found.append(
            ShownStep(
                cut(call_text(step)),
                cut(result.content),
                kind_of_error(result.error) if result.error else "",
                isinstance(generation.action, Malformed),
                tuple(map(cut, executed(step))),
                step_earned(step, total, trajectory),
                tuple(zip(generation.token_ids[:most_tokens], chances, strict=True)),
            )
        )
    return found


def notebook_html(trajectory: Trajectory) -> str:
    """Return what a notebook shows for an episode."""
    body = episode_body(trajectory.task.instruction, shown_steps(trajectory, 4000, 200), conclusion(trajectory), solved=trajectory.success >= 1.0, most=60)
    return fragment(", ".join([trajectory.task.id, *labels(trajectory)]), body)
