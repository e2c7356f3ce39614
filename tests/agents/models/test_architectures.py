"""Tiny random models of every kind of architecture: they load, play, and learn from exactly what they sampled."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmark_files import load

from steptool_agents.generation.choice import find_way
from steptool_agents.models.loading import load_model

ARCHITECTURES = load("architectures")

SHARED = (
    *("gemma2", "gemma3_text", "gpt_oss", "olmo3", "cohere2", "exaone4", "mistral", "deepseek_v3", "stablelm", "granite", "llama4_text"),
    *("gpt2", "phi3", "qwen3_moe", "opt", "nemotron", "cohere", "nanochat"),
)
OWN = (
    *("bloom", "falcon", "gptj", "gpt_neo"),  # attention of their own
    *("qwen3_next", "qwen3_5_text", "lfm2", "falcon_h1", "granitemoehybrid", "bamba", "minimax", "mamba2"),  # states
)
SOME = (*SHARED, *OWN)
"""A third of the table, and most of what is not plain full attention."""
LEARN = ("gpt_oss", "qwen3_next", "mamba2")


def test_these_are_a_third() -> None:
    assert set(SOME) <= set(ARCHITECTURES.ARCHITECTURES)
    assert 45 <= len(ARCHITECTURES.ARCHITECTURES) <= 3 * len(SOME)


@pytest.mark.parametrize("name", SOME)
def test_training_says_what_sampling_said(name: str, tmp_path: Path) -> None:
    found = ARCHITECTURES.check(name, tmp_path, learn=name in LEARN)
    assert found["reason"] == ""
    assert found["sampled"] <= 1e-4
    assert found["recompute"] is None or found["recompute"] <= 1e-4
    assert found["all"] is found["lora"] is (name in LEARN)
    assert found["engine"].startswith("shared cache" if name in SHARED else "own caches")


def test_an_architecture_that_cannot_be_played_says_why(tmp_path: Path) -> None:
    found = ARCHITECTURES.check("recurrent_gemma", tmp_path)
    assert found["reason"].startswith("NotSupported: recurrent_gemma cannot be played here: it has no cache")
    assert "| recurrent_gemma |" in ARCHITECTURES.page([found], "python benchmarks/architectures.py")


@pytest.mark.parametrize("name", ["gemma3_text", "qwen3_next"])
def test_with_adapters_and_gradient_checkpointing(name: str, tmp_path: Path) -> None:
    folder = str(ARCHITECTURES.build(name, tmp_path))
    lm = load_model(folder, bfloat16=False, lora_rank=2, recompute=True)
    for parameter_name, parameter in lm.trainable().items():
        if "lora_B" in parameter_name:
            torch.nn.init.normal_(parameter, std=0.1)
    played = ARCHITECTURES.play(lm)
    assert ARCHITECTURES.difference(lm, played, gradient=True) <= 1e-4


def test_rounding_does_not_decide_how_a_model_plays(tmp_path: Path) -> None:
    """In bfloat16, tokens go to other experts with the cache than without."""
    lm = load_model(str(ARCHITECTURES.build("deepseek_v3", tmp_path)), bfloat16=True, lora_rank=2)
    before = {name: parameter.detach().clone() for name, parameter in lm.named_parameters()}
    assert find_way(lm).shared
    assert lm.autocast
    for name, parameter in lm.named_parameters():
        assert parameter.dtype == before[name].dtype
        assert torch.equal(parameter, before[name])
        assert not parameter.is_inference()
    lm.hidden(torch.arange(2, 12)[None]).sum().backward()
