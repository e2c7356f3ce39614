"""Mistakes: wrong or useless calls such as a model makes, for demonstrations of how to go on after one.

A policy that has seen only the oracle's transcripts is lost after its first error: no demonstration shows what follows.
Noise in the demonstrator's actions is the remedy of Laskey et al., "DART: Noise Injection for Robust Imitation Learning"
(arXiv 1703.09327). The mistake itself is not learned; the recovery is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from steptool_env.env import StepToolEnv
from steptool_env.formats import CallFormat
from steptool_env.types import ToolCall

__all__ = ["draw_mistake"]

TRIES = 12
_VALUE = re.compile(r'(?<=: )"([^"\\]{1,40})"')
"""A string that is a value in a JSON text."""


def draw_mistake(env: StepToolEnv, call_format: CallFormat, rng: np.random.Generator) -> str | None:
    """Return an action, as text, after which the task can still be solved in time, but that the solution does not contain.

    Half of them succeed and return something useless: a tool called with a value that has been seen. The others fail: a value of
    the wrong kind, a mix of two tools' names, a call with a word missing.

    Args:
        env: In the middle of an episode; left as it is. Its suite must know solutions and be able to fork.
        call_format: Writes and reads the call.
        rng: Draws.

    Returns:
        The text, or None if none was found within a few tries, or there is no tool but ``finish``.
    """
    assert env.episode is not None
    solution = env.solution()
    budget = (env.max_steps or env.task.max_steps) - len(env.episode)
    if not solution or budget <= len(solution):
        return None
    schemas = {name: schema for name, schema in env.episode.toolkit.parameters.items() if name != "finish"}
    if not schemas:
        return None
    seen = [value for call in solution[:1] for value in call.arguments.values()]
    seen += [value for message in env.episode.messages[1:] for value in _VALUE.findall(message.content)]
    failing = rng.random() < 0.5
    for _ in range(TRIES):
        text = _draw(solution[0], schemas, seen, call_format, rng)
        if text is None:
            continue
        action = call_format.parse(text)
        if action in solution:
            continue
        trial = env.fork()
        _, _, terminated, truncated, _ = trial.step(action)
        assert trial.episode is not None
        if bool(trial.episode[-1].result.error) == failing and not terminated and not truncated and 0 < len(trial.solution()) < budget:
            return text
    return None


def _draw(correct: ToolCall, schemas: Mapping[str, Mapping[str, Any]], seen: list[object], call_format: CallFormat, rng: np.random.Generator) -> str | None:
    """Return an action that may be a mistake; None if it needs a value and none has been seen."""
    kind = rng.random()
    if kind < 0.15:
        words = call_format.render(correct).split('"')
        del words[rng.integers(len(words))]
        return '"'.join(words)
    names = list(schemas)
    if kind < 0.3:
        first, second = (str(name) for name in rng.choice(names, 2))
        return call_format.render(ToolCall(first.split("_")[0] + "_" + second.split("_")[-1], correct.arguments))
    name = str(rng.choice(names))
    arguments = {}
    for key in schemas[name].get("required", ()):
        values = schemas[name].get("properties", {}).get(key, {}).get("enum", seen)
        if not values:
            return None
        arguments[key] = values[int(rng.integers(len(values)))]
    return call_format.render(ToolCall(name, arguments))
