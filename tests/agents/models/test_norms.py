"""RMS norms: by hand, and beside those of ``transformers``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lms import tokenizer, vocabulary
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from steptool_agents.models.language_model import LanguageModel
from steptool_agents.models.norms import _Fused, _Normalized, fuse_norms


def test_a_norm_by_hand() -> None:
    # x = (3, 4), mean(x²) = 12.5, ε = 12.5: r = 1/5. w = (1, 2): y = (3, 8)/5
    # ∂y = (5, 0): w·∂y = (5, 0), mean(w·∂y·x) = 7.5, ∂x = (1, 0) - (3, 4)·7.5/125, ∂w = (5·3/5, 0)
    x, weight = torch.tensor([[3.0, 4.0]], requires_grad=True), torch.tensor([1.0, 2.0], requires_grad=True)
    y: Tensor = _Normalized.apply(x, weight, 12.5)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(y, torch.tensor([[0.6, 1.6]]))
    y.backward(torch.tensor([[5.0, 0.0]]))  # type: ignore[no-untyped-call]
    torch.testing.assert_close(x.grad, torch.tensor([[0.82, -0.24]]))
    torch.testing.assert_close(weight.grad, torch.tensor([3.0, 0.0]))


class OtherRMSNorm(LlamaRMSNorm):  # type: ignore[misc]
    def forward(self, hidden_states: Tensor) -> Tensor:
        return super().forward(hidden_states).clamp(max=1.0)  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", [LlamaRMSNorm, Gemma3RMSNorm])
@pytest.mark.parametrize("shape", [(5, 12), (2, 3, 12), (2, 4, 3, 12)])
def test_it_is_what_the_model_computes(kind: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    norm, same = kind(12, eps=1e-5), kind(12, eps=1e-5)
    with torch.no_grad():
        same.weight.copy_(norm.weight.normal_())
    fuse_norms(nn.Sequential(same))
    assert isinstance(same, _Fused) and isinstance(same, kind)
    x, push = torch.randn(shape), torch.randn(shape)
    found = []
    for one in (norm, same):
        value = x.clone().requires_grad_()
        out = one(value)
        (out * push).sum().backward()
        found.append((out.detach(), value.grad, one.weight.grad))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(same(x.bfloat16()), norm(x.bfloat16()))


def test_a_norm_that_computes_something_else_keeps_its_own_code() -> None:
    norm = OtherRMSNorm(12)
    fuse_norms(nn.Sequential(norm))
    assert type(norm) is OtherRMSNorm


@pytest.mark.parametrize("what", [False, "selective", True])
def test_a_model_learns_the_same(what: bool | str) -> None:
    found = []
    for fused in (False, True):
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
        model: Any = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary(), **sizes, initializer_range=0.2))
        if fused:
            fuse_norms(model)
        lm = LanguageModel(model, tokenizer(), recompute=what)
        loss = lm.hidden(torch.arange(2, 202)[None]).pow(4).mean()
        loss.backward()
        found.append((loss.detach(), {name: one.grad for name, one in lm.trainable().items() if one.grad is not None}))
    (loss, theirs), (same, ours) = found
    torch.testing.assert_close(loss, same, rtol=1e-6, atol=0.0)
    assert ours.keys() == theirs.keys() and any("norm" in name for name in ours)
    for name, one in theirs.items():
        assert (ours[name] - one).norm() <= 1e-5 * one.norm(), name
