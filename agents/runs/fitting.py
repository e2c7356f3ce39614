"""Do a task's right calls fit into a run's budgets? Asked of the suite's own solutions before a run begins, so that none trains for hours on
tasks that cannot be solved within its ``max_new_tokens``, its context or its steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console

from steptool_env.env import StepToolEnv
from steptool_env.errors import InvalidArgument
from steptool_env.tasks import TaskSuite

from ..config import Config
from ..policies.tokens import TokenPolicy
from ..policies.transcripts import Transcripts
from ..rollouts.evaluate import held_out

__all__ = ["Need", "check_budgets", "needs"]

SAMPLE = 16
"""Tasks that are measured, spread evenly over the training tasks: a second or two even of a slow suite."""
MOST_CALLS = 64
"""So many calls of a solution are made; further ones are only counted."""


class Need(NamedTuple):
    """What the solution of a task takes."""

    steps: int
    """Calls."""
    budget: int
    """Calls that the task allows."""
    action: int
    """Tokens of its longest call."""
    context: int
    """Tokens of the transcript when its last measured call begins."""


def needs(suite: TaskSuite, tasks: Sequence[int], policy: TokenPolicy, max_steps: int | None = None) -> list[Need]:
    """Return what the solutions of tasks take, written as the policy would have to write them.

    Tools whose state cannot be copied may act on the world: their calls are written, not made, so that their results count for nothing.

    Args:
        suite: One with solutions.
        tasks: Indices into it. Those without a solution, or with one that the call format cannot write, are left out.
        policy: Its prompts are used; it does not play, and nothing is drawn from its generator.
        max_steps: Overrides the budget of the tasks.
    """
    env, transcripts, found = StepToolEnv(suite, "final", max_steps=2**31), Transcripts(policy.prompts, room=None), []
    for index in tasks:
        observation, _ = env.reset(options={"task": index})
        steps, action, over, plan = 0, 0, False, env.solution()
        try:
            transcript = transcripts.read(0, observation)
            context = transcript.length
            while plan and not over and steps < MOST_CALLS:
                written = policy.prompts.write(plan[0])
                steps, action, context = steps + 1, max(action, len(written.ids)), transcript.length
                transcript.record(written.ids, ended=written.ended)
                if not suite.can_snapshot:
                    plan = plan[1:]
                    continue
                observation, _, terminated, truncated, _ = env.step(plan[0])
                over = terminated or truncated
                if not over:
                    transcript, plan = transcripts.read(0, observation), env.solution()
        except (RecursionError, TypeError, ValueError):  # this form cannot write the call: the warm start says so, or the model never will
            continue
        finally:
            transcripts.clear()
        if steps:
            found.append(Need(steps + (0 if over else len(plan)), max_steps or env.task.max_steps, action, context))
    return found


def check_budgets(suite: TaskSuite, policy: TokenPolicy, config: Config, context: int, console: Console) -> None:
    """Refuse budgets into which no solution fits, and say on the console if only some fit.

    Args:
        suite: The training tasks, without calls that fail: what they take shall not depend on luck. Those without solutions are not asked.
        policy: The policy that will play.
        config: Uses ``rollout.max_new_tokens`` and ``task.max_steps``.
        context: The longest sequence that the model takes, in tokens.
        console: Gets a line if some of the solutions do not fit.

    Raises:
        InvalidArgument: None of the sampled tasks can be solved; names the numbers that would fit.
    """
    if not suite.has_solution or not len(suite):
        return
    new = config.rollout.max_new_tokens
    found = needs(suite, held_out(suite, min(SAMPLE, len(suite))), policy, config.task.max_steps)
    short = [need for need in found if need.steps > need.budget or need.action > new or need.context + new > context]
    if not short:
        return
    changes = _changes(short, new, context)
    if len(short) == len(found):
        raise InvalidArgument(f"no solution of {len(found)} sampled tasks fits, so nothing could be learned: {changes}")
    console.print(
        f"warning: the solutions of {len(short)} of {len(found)} sampled tasks do not fit: {changes}", style="yellow", markup=False, highlight=False
    )


def _changes(short: Sequence[Need], new: int, context: int) -> str:
    """Say what is too small, and what would fit all of these."""
    action = max(need.action for need in short)
    changes = []
    if action > new:
        changes.append(f"the longest call takes {action} tokens and max_new_tokens is {new}: set max_new_tokens to {action} or more")
    tight = [need for need in short if need.steps > need.budget]
    if tight:
        worst = max(tight, key=lambda need: need.steps)
        changes.append(f"the longest takes {worst.steps} calls where {worst.budget} are allowed: set max_steps to {worst.steps} or more")
    length = max(need.context for need in short) + max(action, new)
    if length > context:
        changes.append(
            f"the longest takes {length} tokens in all and the model's context has {context}: choose a model with a context of {length} or more"
        )
    return "; ".join(changes)
