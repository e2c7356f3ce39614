"""Policies that need no model: the oracle, noisy oracles, and every cheap trick that a reward must not pay for.

A scripted policy is a function that maps the environment and a random generator to an action. It may look at everything that the
environment knows, including what is hidden from agents: it exists to test rewards, and to estimate values by simulation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from steptool_env.env import StepToolEnv
from steptool_env.errors import NotSupported, ResetNeeded
from steptool_env.spaces import ToolCallSpace
from steptool_env.tasks import Episode
from steptool_env.types import ToolCall

__all__ = ["GIVE_UP", "HACKS", "NoisyOracle", "ScriptedPolicy", "oracle", "random_caller"]

ScriptedPolicy: TypeAlias = Callable[[StepToolEnv, np.random.Generator], ToolCall]

GIVE_UP = ToolCall("finish", {"answer": "", "give_up": True})
"""How a policy ends an episode that it cannot solve."""
_TRIES = 8
"""How many calls are tried on a copy of the environment to find one that works and does not help."""


def oracle(env: StepToolEnv, rng: np.random.Generator) -> ToolCall:
    """Play the suite's solution; give up where there is none any more."""
    solution = env.solution()
    return solution[0] if solution else GIVE_UP


@dataclass(frozen=True)
class NoisyOracle:
    """An oracle that makes a random valid call with this probability instead."""

    noise: float

    def __call__(self, env: StepToolEnv, rng: np.random.Generator) -> ToolCall:
        return random_caller(env, rng) if rng.random() < self.noise else oracle(env, rng)


def random_caller(env: StepToolEnv, rng: np.random.Generator) -> ToolCall:
    """Call any tool on offer, ``finish`` included, with values that the transcript holds."""
    return _sampled(env, rng)


# ---------------------------------------------------------------- hacks
def repeater(env: StepToolEnv, rng: np.random.Generator) -> ToolCall:
    """Make one call that works, again and again, and never answer."""
    episode = _running_episode(env)
    if len(episode) and isinstance(episode[0].action, ToolCall) and not episode[0].result.error:
        return episode[0].action
    return _first_of_solution(env) or _useless(env, rng)


def spammer(env: StepToolEnv, rng: np.random.Generator) -> ToolCall:
    """Make useless calls that work, one after another and as varied as possible, and never answer."""
    return _useless(env, rng, varied=True)


def greedy(env: StepToolEnv, rng: np.random.Generator) -> ToolCall:
    """Make the call that the reward pays most for at once, and never answer: what a learner finds first.

    Copies of the environment try the calls; where it cannot be copied this is the spammer. Of calls that pay the same it takes the first that works,
    the solution's before others: the solution leads to where there is more to be had.
    """
    if not env.suite.can_snapshot:
        return _useless(env, rng, varied=True)
    # Last what has worked before, so that a bonus for a call that is new is collected with new ones.
    candidates = [*filter(None, [_first_of_solution(env)]), *(_sampled(env, rng, finish=False) for _ in range(_TRIES)), *_worked(env)[:2]]
    state, best, most = env.snapshot(), candidates[0], (-np.inf, False)
    trial = StepToolEnv(env.suite, env.shaper, max_steps=env.max_steps)
    for call in candidates:
        trial.restore(state)
        _, reward, _, _, info = trial.step(call)
        if (found := (reward, not info["tool_error"])) > most:
            best, most = call, found
    return best


def early_finisher(env: StepToolEnv, rng: np.random.Generator) -> ToolCall:
    """Answer at once, with a word of the instruction."""
    words = _running_episode(env).task.instruction.split()
    return ToolCall("finish", {"answer": words[int(rng.integers(len(words)))] if words else ""})


def staller(env: StepToolEnv, rng: np.random.Generator) -> ToolCall:
    """Do all that the task takes but the last call, make useless calls for as long as the budget allows, then solve it."""
    episode, solution = _running_episode(env), env.solution()
    left = (env.max_steps or episode.task.max_steps) - len(episode)
    return solution[0] if len(solution) > 1 or (solution and left <= 1) else _useless(env, rng)


def no_finisher(env: StepToolEnv, rng: np.random.Generator) -> ToolCall:
    """Do all that the task takes but the last call, then stay there."""
    solution = env.solution()
    return solution[0] if len(solution) > 1 else _useless(env, rng)


def echo(env: StepToolEnv, rng: np.random.Generator) -> ToolCall:
    """Call tools at random for half of the budget, then answer with everything that was read."""
    episode = _running_episode(env)
    if len(episode) + 1 < (env.max_steps or episode.task.max_steps) / 2:
        return _sampled(env, rng, finish=False)
    return ToolCall("finish", {"answer": "\n".join(message.content for message in episode.messages if message.role != "assistant")})


def format_only(env: StepToolEnv, rng: np.random.Generator) -> ToolCall:
    """Write calls of faultless form with meaningless arguments, and never answer."""
    return _sampled(env, rng, finish=False, meaning=False)


HACKS: dict[str, ScriptedPolicy] = {
    "random": random_caller,
    "repeater": repeater,
    "spammer": spammer,
    "greedy": greedy,
    "early finisher": early_finisher,
    "staller": staller,
    "no finisher": no_finisher,
    "echo": echo,
    "format only": format_only,
}
"""Name -> policy that must not be paid more than the oracle."""


# ---------------------------------------------------------------- parts
def _running_episode(env: StepToolEnv) -> Episode:
    if env.episode is None:
        raise ResetNeeded("a scripted policy was asked to act before reset()")
    return env.episode


def _sampled(env: StepToolEnv, rng: np.random.Generator, *, finish: bool = True, meaning: bool = True) -> ToolCall:
    """Draw a valid call, from a separate space: the environment's generator stays as it is."""
    episode = _running_episode(env)
    tools = {name: schema for name, schema in episode.toolkit.parameters.items() if finish or name != "finish"}
    space = ToolCallSpace(tools or episode.toolkit.parameters)
    if meaning:
        space.see(episode.messages)
    space.seed(int(rng.integers(2**31)))
    call = space.sample()
    return ToolCall(call["name"], call["arguments"])


def _useless(env: StepToolEnv, rng: np.random.Generator, *, varied: bool = False) -> ToolCall:
    """Return a call that works and leaves the progress as it is; or else one that works, or any.

    Args:
        env: Where the episode stands; it stays as it is, a fork tries the calls.
        rng: What the tried calls are drawn from.
        varied: Look for calls that were not made before, and repeat one only if none is found.
    """
    drawn = [_sampled(env, rng, finish=False) for _ in range(_TRIES)]
    known = [*_worked(env), *filter(None, [_first_of_solution(env)])]
    candidates = [*drawn, *known] if varied else [*known[:_TRIES], *drawn]
    if not env.suite.can_snapshot:
        return candidates[0]
    state = env.snapshot()
    trial = StepToolEnv(env.suite, "final", max_steps=env.max_steps)
    fallback = candidates[0]
    for call in candidates:
        trial.restore(state)
        _, _, _, _, info = trial.step(call)
        if not info["tool_error"]:
            if info["progress"] == state.progress:
                return call
            fallback = call
    return fallback


def _worked(env: StepToolEnv) -> list[ToolCall]:
    """Return the calls that have worked so far, the latest first."""
    return [transition.action for transition in _running_episode(env) if isinstance(transition.action, ToolCall) and not transition.result.error][::-1]


def _first_of_solution(env: StepToolEnv) -> ToolCall | None:
    try:
        solution = env.solution()
    except NotSupported:
        return None
    return solution[0] if len(solution) > 1 else None
