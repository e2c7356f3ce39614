"""What ``rollout_speed.py`` plays: episodes of plain text, token by token with the engine."""

from __future__ import annotations

import random
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from steptool_agents import LanguageModel
from steptool_agents.generation.admission import Limits
from steptool_agents.generation.engine import Engine

__all__ = ["Text", "episodes", "with_engine"]

ROOT = Path(__file__).parent.parent


class Text:
    """An endless supply of tokens."""

    def __init__(self, lm: LanguageModel, seed: int = 0) -> None:
        self.ids = lm.tokenizer.encode("".join(file.read_text(encoding="utf-8") for file in sorted((ROOT / "docs").glob("*.md"))), add_special_tokens=False)
        self.random = random.Random(seed)

    def take(self, count: int) -> list[int]:
        start = self.random.randrange(len(self.ids))
        return [self.ids[(start + offset) % len(self.ids)] for offset in range(count)]


def episodes(text: Text, count: int, turns: int, prompt: int, observation: int) -> list[list[list[int]]]:
    """Return per episode what it reads at each turn."""
    shared = text.take(prompt - 32)
    return [[shared + text.take(32), *(text.take(observation) for _ in range(turns - 1))] for _ in range(count)]


@torch.inference_mode()
def with_engine(lm: LanguageModel, plan: list[list[list[int]]], new: int, eos: set[int]) -> tuple[list[list[int]], Engine]:
    """Play with the engine."""
    engine = Engine(lm, Limits(new, 0.0, 4096, 10**9), lambda ids: False, _Never(eos))
    said: list[list[int]] = [[] for _ in plan]
    at = [0] * len(plan)
    for row, episode in enumerate(plan):
        engine.add(row, episode[0], seed=row)
    # A version that --against names may not have it.
    with getattr(lm, "playing", nullcontext)():
        while engine.waits():
            for row, one in engine.step():
                assert isinstance(row, int)
                said[row] += one.ids
                at[row] += 1
                if at[row] < len(plan[row]):
                    engine.extend(row, plan[row][at[row]])
    return said, engine


class _Never:
    """``generate`` with ``min_new_tokens`` rules the end-of-turn token out; so does this."""

    def __init__(self, tokens: set[int]) -> None:
        self.tokens = sorted(tokens)

    def mask(self, logprobs: torch.Tensor, guides: list[Any]) -> torch.Tensor:
        return logprobs.index_fill(1, torch.tensor(self.tokens, device=logprobs.device), -torch.inf)

    def accept(self, guides: list[Any], tokens: list[int]) -> None:
        pass
