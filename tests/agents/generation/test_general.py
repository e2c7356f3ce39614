"""The engine for any architecture: with caches of the model's own kind it writes what the plain model writes."""

from __future__ import annotations

import logging
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from engines import WIDEST, check, model, plans, play, text
from lms import language_model

from steptool_agents.generation.admission import Limits
from steptool_agents.generation.choice import find_way, make_engine
from steptool_agents.generation.engine import Engine
from steptool_agents.generation.general import General
from steptool_env.errors import NotSupported

# What keeps keys within a window, sinks, latent keys; convolutions, linear attention and state spaces beside attention, alone, and in the same layer.
OWN = ("gemma3_text", "gpt_oss", "deepseek_v3", "bloom", "lfm2", "qwen3_next", "mamba2", "falcon_h1")


@pytest.mark.parametrize(("name", "batched"), [*((name, True) for name in OWN), ("gemma3_text", False), ("lfm2", False)])
def test_it_writes_what_the_plain_model_writes(name: str, batched: bool, tmp_path: Path) -> None:
    lm = model(name, tmp_path)
    lm.keep_own_attention()
    plan = plans(longest=3)
    said, engine = play(lm, plan, Limits(8, 1.0, 50), kind=partial(General, batched=batched))
    check(lm, plan, said, 1.0)
    # Common tools, prompts that are equal, observations, each with the last token of the action before it: nothing twice.
    assert engine.read_tokens < sum(len(part) for episode in plan for part in episode)


@pytest.mark.parametrize("name", ["llama", "mamba"])
def test_reading_token_by_token_changes_nothing(name: str, tmp_path: Path) -> None:
    lm = model(name, tmp_path)
    lm.keep_own_attention()
    plan = plans(count=4, longest=2)
    said, _ = play(lm, plan, Limits(6, 1.0), kind=partial(General, chunked=False))
    check(lm, plan, said, 1.0)


@pytest.mark.parametrize("budget", [1, 250, 700])
def test_memory_changes_nothing(budget: int, tmp_path: Path) -> None:
    lm = model("lfm2", tmp_path)
    lm.keep_own_attention()
    plan = plans()
    expected, _ = play(lm, plan, Limits(8, 1.0, WIDEST, WIDEST), kind=General)
    found, _ = play(lm, plan, Limits(8, 1.0, 100, budget), 4, kind=General)
    assert [[one.ids for one in actions] for actions in found] == [[one.ids for one in actions] for actions in expected]


def test_both_engines_say_the_same() -> None:
    lm = language_model()
    plan = plans()
    shared, _ = play(lm, plan, Limits(8, 1.0))
    lm.keep_own_attention()
    own, _ = play(lm, plan, Limits(8, 1.0), kind=General)
    assert [[one.ids for one in actions] for actions in shared] == [[one.ids for one in actions] for actions in own]


def test_a_sequence_that_is_dropped_while_it_writes() -> None:
    lm = language_model()
    lm.keep_own_attention()
    rng = random.Random(0)
    prompts = {key: text(rng, 10 + key) for key in range(3)}
    engine = General(lm, Limits(12, 0.0), lambda ids: False)
    for key, ids in prompts.items():
        engine.add(key, ids, seed=key)
    said = {}
    with torch.inference_mode():
        engine.step()
        engine.step()
        engine.drop(1)
        assert 1 not in engine
        while engine.waits():
            said.update(engine.step())
    assert set(said) == {0, 2}
    check(lm, [[prompts[0]], [prompts[2]]], [[said[0]], [said[2]]], 0.0)
    engine.drop(0)
    engine.drop(2)
    assert engine.cache_tokens == 0


# ---------------------------------------------------------------- which engine
def test_the_choice_is_made_once_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lm = model("lfm2", tmp_path)
    with caplog.at_level(logging.WARNING):
        engines = [make_engine(lm, Limits(), lambda ids: True) for _ in range(3)]
    assert all(isinstance(engine, General) and engine.batched and engine.chunked for engine in engines)
    assert [record.getMessage() for record in caplog.records if "steptool" in record.name] == [
        "lfm2: episodes cannot share a cache, so each has one of the model's own kind: the same results, but slower"
    ]
    assert lm.config._attn_implementation == lm.own_attention == "sdpa"


def test_most_models_share_a_cache(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert isinstance(make_engine(language_model(), Limits(), lambda ids: True), Engine)
    assert not [record for record in caplog.records if "steptool" in record.name]


def test_a_model_that_keeps_its_state_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotSupported, match=r"^recurrent_gemma cannot be played here: it has no cache.*servers=") as caught:
        find_way(model("recurrent_gemma", tmp_path))
    assert len(str(caught.value).splitlines()) == 1


def test_a_model_whose_cache_says_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = language_model()
    lm.keep_own_attention()
    hidden = lm.hidden

    def forgetful(ids: torch.Tensor, kept: Any = None, **options: Any) -> torch.Tensor:
        if kept is not None and kept.cache is not None:
            kept.cache.layers[0].keys.zero_()
        return hidden(ids, kept, **options)

    monkeypatch.setattr(lm, "hidden", forgetful)
    with pytest.raises(NotSupported, match="llama cannot be played here: with its cache it says something else than without"):
        find_way(lm)
