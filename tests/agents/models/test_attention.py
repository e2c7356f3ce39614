"""Attention: whole rows as PyTorch's own, and own keys with shared ones as one softmax over both."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from steptool_agents.models import attention
from steptool_agents.models.attention import attend
from steptool_env.errors import NotSupported


def tensors(n: int, heads: int, kinds: int, queries: int, width: int, size: int = 8) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(n + heads + queries)
    return torch.randn(n, heads, queries, size), torch.randn(n, kinds, width, size), torch.randn(n, kinds, width, size)


LAYER: Any = SimpleNamespace(layer_idx=0)


@pytest.mark.parametrize("kinds", [1, 2, 6])
@pytest.mark.parametrize("length", [1, 5, attention.SHORT, attention.SHORT + 1])
def test_whole_rows(kinds: int, length: int) -> None:
    query, key, value = tensors(2, 6, kinds, length, length)
    out, _ = attend(LAYER, query, key, value, None, scaling=0.3)
    expected = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=0.3, enable_gqa=True).transpose(1, 2)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("length", [1, 5, attention.SHORT, attention.SHORT + 1])
def test_whole_rows_in_bfloat16(length: int) -> None:
    exact = [one.requires_grad_() for one in tensors(2, 6, 2, length, length)]
    rounded = [one.detach().bfloat16().requires_grad_() for one in exact]
    expected = F.scaled_dot_product_attention(*exact, is_causal=True, scale=0.3, enable_gqa=True).transpose(1, 2)
    out, _ = attend(LAYER, *rounded, None, scaling=0.3)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, atol=0.05, rtol=0.05)
    gradient = torch.randn(out.shape)
    expected.backward(gradient)
    out.backward(gradient.bfloat16())
    for one, other in zip(rounded, exact, strict=True):
        assert one.grad is not None and other.grad is not None
        assert (one.grad.float() - other.grad).norm() < 0.02 * (1.0 + other.grad.norm())


class Slots:
    """Two of three rows share a prefix of five tokens, one of them only the first three."""

    fresh = False
    calls = 0

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, queries: int, width: int) -> None:
        allowed = torch.ones(queries, width, dtype=torch.bool).tril(width - queries)
        self.mask = torch.zeros(3, queries, width).masked_fill(~allowed, -torch.inf)
        self.keys, self.values = keys, values

    def shared(self, layer: int) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]]:
        mask = torch.tensor([[0.0] * 5, [0.0] * 3 + [-torch.inf] * 2])
        return [(torch.tensor([0, 2]), self.keys, self.values, mask)]


@pytest.mark.parametrize("block", [1, 10_000])
def test_own_and_shared_keys_are_one_softmax(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(attention, "BLOCK", block)
    query, key, value = tensors(3, 4, 2, 3, 7)
    keys, values = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    slots = Slots(keys, values, 3, 7)
    out, _ = attend(LAYER, query, key, value, None, slots=slots)
    for row, prefix in ((0, 5), (1, 0), (2, 3)):
        k, v = torch.cat([keys[:, :prefix], key[row]], 1)[None], torch.cat([values[:, :prefix], value[row]], 1)[None]
        mask = torch.cat([torch.zeros(3, prefix), slots.mask[row]], 1)
        expected = F.scaled_dot_product_attention(query[row : row + 1], k, v, attn_mask=mask, enable_gqa=True).transpose(1, 2)
        torch.testing.assert_close(out[row : row + 1], expected, atol=1e-5, rtol=1e-4)
    assert slots.calls == 1


@pytest.mark.parametrize("asked", [{"sliding_window": 4}, {"softcap": 30.0}, {"s_aux": torch.zeros(4)}])
def test_what_it_does_not_know_is_refused(asked: dict[str, Any]) -> None:
    query, key, value = tensors(1, 4, 2, 3, 3)
    with pytest.raises(NotSupported, match=next(iter(asked))):
        attend(LAYER, query, key, value, None, **asked)
    with pytest.raises(NotSupported, match="a mask"):
        attend(LAYER, query, key, value, torch.zeros(1, 1, 3, 3))
