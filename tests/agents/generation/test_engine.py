"""The engine: whatever is shared, held back, given up or read again, it writes what the plain model writes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from engines import WIDEST, check, model, plans, play, text
from lms import KINDS, language_model

from steptool_agents.generation.admission import Limits
from steptool_agents.generation.engine import ATTENDED, Engine
from steptool_agents.models.attention import ATTENTION


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_it_writes_what_the_plain_model_writes(kind: str, temperature: float) -> None:
    lm = language_model(kind)
    plan = plans()
    said, _ = play(lm, plan, Limits(8, temperature))
    check(lm, plan, said, temperature)


WINDOWS = ("mistral", "gemma2", "gemma3_text", "gpt_oss", "llama4_text", "deepseek_v3")
"""Architectures of the shared cache: windows in all layers or in some, with capped scores, with sinks; chunks; latent attention."""


@pytest.mark.parametrize("least", [0, 2**40])
@pytest.mark.parametrize("name", WINDOWS)
def test_windows_bind_across_actions_and_shared_prefixes(name: str, least: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ATTENDED, "cpu", least)  # prefixes in one place, and copied into each row
    lm = model(name, tmp_path)
    plan = plans(longest=3)
    said, engine = play(lm, plan, Limits(12, 1.0))
    assert lm.config._attn_implementation == ATTENTION
    assert [len(prefix.ids) for prefix in engine.prefixes.prefixes] == [90, 120]  # both longer than a window, as are their ends
    check(lm, plan, said, 1.0)
    lm.keep_own_attention()
    check(lm, plan, said, 1.0)  # and that is what the model's own attention says


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("budget", [1, 250, 700])
def test_memory_changes_nothing(width: int, budget: int) -> None:
    """Not even the sampled tokens: every sequence draws from a generator of its own."""
    lm = language_model()
    plan = plans()
    expected, _ = play(lm, plan, Limits(8, 1.0, WIDEST, WIDEST))
    found, _ = play(lm, plan, Limits(8, 1.0, 100, budget), width)
    assert [[one.ids for one in actions] for actions in found] == [[one.ids for one in actions] for actions in expected]
    check(lm, plan, found, 1.0)


def test_the_cache_stays_within_its_budget() -> None:
    lm = language_model()
    most: list[int] = []
    budget = 600
    play(lm, plans(longest=6), Limits(8, 1.0, 200, budget), 9, lambda engine: most.append(engine.cache.tokens))
    assert budget / 2 < max(most) <= budget
    free: list[int] = []
    play(lm, plans(longest=6), Limits(8, 1.0, 200, WIDEST), 9, lambda engine: free.append(engine.cache.tokens))
    assert max(free) > budget  # without a budget it would not


def test_each_token_is_encoded_once_and_what_is_shared_once_for_all() -> None:
    lm = language_model()
    rng = random.Random(1)
    tools = text(rng, 100)
    plan = [[tools + text(rng, 10), text(rng, 5)] for _ in range(6)] + [[[*tools, *[9] * 10]]] * 4
    said, engine = play(lm, plan, Limits(8, 0.0))
    # The tools once; ten tokens of six prompts and those of one for all four equal ones; observations, each with the last
    # token of the action before it.
    assert engine.read_tokens == 100 + 7 * 10 + 6 * (5 + 1)
    assert engine.written_tokens == sum(len(one.ids) for actions in said for one in actions)
    assert [prefix.ids for prefix in engine.prefixes.prefixes] == [tools]


@pytest.mark.parametrize(("rows", "least", "copied"), [(6, 2**40, True), (6, 0, False), (6, None, True), (100, None, False)])
def test_few_rows_have_copies_of_what_they_share(rows: int, least: int | None, copied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if least is not None:
        monkeypatch.setitem(ATTENDED, "cpu", least)
    lm = language_model()
    rng = random.Random(1)
    tools = text(rng, 100)
    plan = [[tools + text(rng, 10), text(rng, 5)] for _ in range(rows)]
    prefixed: list[int] = []
    said, engine = play(lm, plan, Limits(8, 0.0), rows, lambda engine: prefixed.append(sum(prefix is not None for prefix, _ in engine.cache.prefixes)))
    assert (max(prefixed) == 0) == copied
    assert engine.read_tokens == 100 + rows * 10 + rows * (5 + 1)  # encoded once all the same
    check(lm, plan, said, 0.0)


def test_episodes_one_after_the_other_share_as_well() -> None:
    lm = language_model()
    rng = random.Random(1)
    tools = text(rng, 100)
    plan = [[tools + text(rng, 10)] for _ in range(6)]
    said, engine = play(lm, plan, Limits(8, 0.0), width=1)
    assert engine.read_tokens == 110 + 100 + 5 * 10  # the second shows what the first had in common with it
    check(lm, plan, said, 0.0)


def test_a_short_beginning_is_not_worth_a_memory() -> None:
    rng = random.Random(1)
    begin = text(rng, 70)
    _, engine = play(language_model(), [[begin + text(rng, 80)] for _ in range(3)], Limits(4, 0.0))
    assert not engine.prefixes.prefixes


def test_nobody_waits_for_the_longest() -> None:
    """While one action goes on and on, the others take their turns."""
    lm = language_model()
    rng = random.Random(2)
    engine = Engine(lm, Limits(60, 1.0), lambda ids: len(ids) >= (60 if ids is first else 2))
    engine.add("long", text(rng, 10), 0)
    first = engine._sequences["long"].written
    engine.add("short", text(rng, 10), 1)
    turns = 0
    with torch.inference_mode():
        while True:
            ended = dict(engine.step())
            if "long" in ended:
                break
            if "short" in ended:
                turns += 1
                engine.extend("short", text(rng, 3))
    assert turns >= 20


def test_what_is_dropped_leaves_the_others_alone() -> None:
    lm = language_model()
    plan = plans()
    engine = Engine(lm, Limits(12, 0.0), lambda ids: False)
    for row, episode in enumerate(plan):
        engine.add(row, episode[0], seed=row)
    found: dict[Any, Any] = {}
    with torch.inference_mode():
        for step in range(12):
            found.update(engine.step())
            if step in (2, 5):
                for row in range(step, len(plan), 3):
                    engine.drop(row)
    left = [row for row in range(len(plan)) if row % 3 not in (2,)]
    assert sorted(found) == [row for row in left if row in engine]
    check(lm, [plan[row][:1] for row in sorted(found)], [[found[row]] for row in sorted(found)], 0.0)


def test_bfloat16_keeps_its_cache_in_bfloat16() -> None:
    lm = language_model("tiny", bfloat16=True)
    plan = plans()
    said, engine = play(lm, plan, Limits(6, 0.0))
    assert all(len(one.ids) <= 6 for actions in said for one in actions)
    assert engine.prefixes.prefixes[0].values[0].dtype == torch.bfloat16
