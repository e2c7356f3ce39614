"""Tiny random models of every kind of architecture: they load, play, and learn from exactly what they sampled."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_files import load

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
