"""Episodes for engines, without an environment, and what the plain model says of what they wrote."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmark_files import load
from lms import from_scratch

from steptool_agents.generation.admission import Limits
from steptool_agents.generation.engine import Engine
from steptool_agents.generation.writing import Writing
from steptool_agents.models.language_model import LanguageModel
from steptool_agents.models.loading import load_model

ARCHITECTURES = load("architectures")

WIDEST = 10**9


def model(name: str, folder: Path, **options: Any) -> LanguageModel:
    """Return a tiny random model of an architecture of the benchmark of that name; windows have 8 tokens."""
    lm = load_model(str(ARCHITECTURES.build(name, folder)), bfloat16=False, **options)
    torch.nn.init.normal_(lm.value_head.value.weight)
    return lm


def text(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(5, 1000) for _ in range(count)]


def plans(seed: int = 0, count: int = 9, longest: int = 4) -> list[list[list[int]]]:
    """What each episode reads at each turn: some prompts are equal, some begin alike, some have nothing in common."""
    rng = random.Random(seed)
    tools, others, task = text(rng, 90), text(rng, 120), text(rng, 20)
    prompts: list[list[int]] = [tools + text(rng, rng.randint(1, 30)) for _ in range(3)] + [tools + task] * 3 + [[*others, 7], [*others, 8], text(rng, 40)]
    return [[prompt, *(text(rng, rng.randint(1, 25)) for _ in range(rng.randrange(longest)))] for prompt in prompts[:count]]


def play(
    lm: LanguageModel, plan: list[list[list[int]]], limits: Limits, width: int = 100, checks: Any = None, kind: Callable[..., Writing] = Engine
) -> tuple[list[list[Any]], Any]:
    """Play these episodes, ``width`` side by side; actions end at tokens that 5 divides."""
    engine = kind(lm, limits, lambda ids: ids[-1] % 5 == 0)
    said: list[list[Any]] = [[] for _ in plan]
    waiting = list(range(len(plan)))

    def start() -> None:
        if waiting:
            engine.add(row := waiting.pop(0), plan[row][0], seed=row)

    for _ in range(width):
        start()
    with torch.inference_mode():
        while engine.waits():
            for row, one in engine.step():
                assert isinstance(row, int)
                said[row].append(one)
                if len(said[row]) < len(plan[row]):
                    engine.extend(row, plan[row][len(said[row])])
                else:
                    engine.drop(row)
                    start()
            if checks is not None:
                checks(engine)
    assert [len(one) for one in said] == [len(one) for one in plan]
    return said, engine


def check(lm: LanguageModel, plan: list[list[list[int]]], said: list[list[Any]], temperature: float) -> None:
    for episode, actions in zip(plan, said, strict=True):
        ids = [token for context, one in zip(episode, actions, strict=True) for token in (*context, *one.ids)]
        logprobs, _ = from_scratch(lm, ids, temperature or 1.0)
        hidden = lm.hidden(torch.tensor([ids]))[0].detach()
        place = 0
        for context, one in zip(episode, actions, strict=True):
            place += len(context)
            torch.testing.assert_close(one.state, hidden[place - 1], atol=1e-4, rtol=1e-3)
            torch.testing.assert_close(one.first, hidden[: len(episode[0])].mean(0), atol=1e-4, rtol=1e-3)
            for token, logprob in zip(one.ids, one.logprobs, strict=True):
                assert logprob == pytest.approx(logprobs[place - 1, token].item(), abs=2e-4)
                place += 1
