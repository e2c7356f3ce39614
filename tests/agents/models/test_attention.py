"""Attention: whole rows as PyTorch's own, and own keys with shared ones as one softmax over both."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from steptool_agents.models import attention
from steptool_agents.models.attention import Shared, attend, attending
from steptool_agents.models.patterns import Pattern
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
    """Two of three rows share a prefix of five tokens, one of them only the first three. Every row has four keys before its queries."""

    fresh = False
    calls = 0
    updated = 0
    offsets = torch.tensor([5, 0, 3])

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, queries: int, width: int) -> None:
        self.columns = torch.arange(width)
        self.queries = torch.arange(width - queries, width)
        self.keys, self.values = keys, values

    def allows(self, row: int, pattern: Pattern | None) -> torch.Tensor:
        """Return (Q, P + W), over the prefix of the row and its own keys: True where a query may attend."""
        shift = int(self.offsets[row])
        queries, keys = self.queries[:, None] + shift, torch.arange(len(self.columns) + shift)
        reached = keys <= queries
        return reached if pattern is None else reached & (keys >= pattern.first(queries))

    def own(self, pattern: Pattern | None) -> tuple[int, torch.Tensor]:
        masks = [self.allows(row, pattern)[:, int(self.offsets[row]) :] for row in range(3)]
        return 0, torch.zeros(3, len(self.queries), len(self.columns)).masked_fill(~torch.stack(masks), -torch.inf)

    def shared(self, layer: int, pattern: Pattern | None) -> list[Shared]:
        mask = torch.full((2, len(self.queries), 5), -torch.inf)
        for index, row in enumerate((0, 2)):
            shift = int(self.offsets[row])
            mask[index, :, :shift][self.allows(row, pattern)[:, :shift]] = 0.0
        return [Shared(torch.tensor([0, 2]), self.keys, self.values, mask if pattern is not None else mask[:, :1])]


RULES: list[dict[str, Any]] = [{}, {"softcap": 0.8}, {"s_aux": torch.tensor([0.3, -4.0, 2.0, 60.0])}, {"softcap": 2.0, "s_aux": torch.ones(4)}]


def reference(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, softcap: Any = None, s_aux: Any = None) -> torch.Tensor:
    """Attention as the formulas say, one row; ``mask`` (Q, W) is True where a query may attend."""
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    weights = scores.masked_fill(~mask, -torch.inf).exp()
    total = weights.sum(-1, keepdim=True)
    if s_aux is not None:
        total = total + s_aux.exp().view(1, -1, 1, 1)
    return (weights @ value / total).transpose(1, 2)


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("pattern", [None, Pattern(3), Pattern(1), Pattern(6), Pattern(20), Pattern(4, chunked=True)], ids=str)
@pytest.mark.parametrize("block", [1, 10_000])
def test_own_and_shared_keys_are_one_softmax(monkeypatch: pytest.MonkeyPatch, block: int, pattern: Pattern | None, rule: dict[str, Any]) -> None:
    monkeypatch.setattr(attention, "BLOCK", block)
    query, key, value = tensors(3, 4, 2, 3, 7)
    keys, values = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    slots = Slots(keys, values, 3, 7)
    with attending(slots):
        out, _ = attend(LAYER, query, key, value, pattern, **rule)
    for row, prefix in ((0, 5), (1, 0), (2, 3)):
        k, v = torch.cat([keys[:, :prefix], key[row]], 1)[None], torch.cat([values[:, :prefix], value[row]], 1)[None]
        expected = reference(query[row : row + 1], k, v, slots.allows(row, pattern), **rule)
        torch.testing.assert_close(out[row : row + 1], expected, atol=1e-5, rtol=1e-4)
    assert slots.calls == 1


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("pattern", [None, Pattern(4), Pattern(1), Pattern(4, chunked=True), Pattern(100)], ids=str)
def test_whole_rows_by_every_rule(pattern: Pattern | None, rule: dict[str, Any]) -> None:
    query, key, value = tensors(2, 4, 2, 11, 11)
    positions = torch.arange(11)
    mask = positions <= positions[:, None]
    if pattern is not None:
        mask &= positions >= pattern.first(positions)[:, None]
    out, _ = attend(LAYER, query, key, value, pattern, **rule)
    torch.testing.assert_close(out, reference(query, key, value, mask, **rule), atol=1e-5, rtol=1e-4)


def test_keys_that_are_not_in_the_cache_are_refused() -> None:
    query, key, value = tensors(3, 4, 2, 3, 7)
    slots = Slots(torch.randn(2, 5, 8), torch.randn(2, 5, 8), 3, 7)
    slots.updated = 1
    with attending(slots), pytest.raises(NotSupported, match="did not put into the cache"):
        attend(LAYER, query, key, value, None)


@pytest.mark.parametrize("asked", [{"position_bias": torch.zeros(4)}, {"alibi": torch.zeros(4)}])
def test_what_it_does_not_know_is_refused(asked: dict[str, Any]) -> None:
    query, key, value = tensors(1, 4, 2, 3, 3)
    with pytest.raises(NotSupported, match=next(iter(asked))):
        attend(LAYER, query, key, value, None, **asked)
    mask: Any = torch.zeros(1, 1, 3, 3)
    with pytest.raises(NotSupported, match="a mask"):
        attend(LAYER, query, key, value, mask)
