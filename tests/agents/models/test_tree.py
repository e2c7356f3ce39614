"""Trees of token prefixes: how they are packed, and attention in them beside attention with a mask over everything."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lms import language_model
from torch import Tensor, nn

from steptool_agents.models.patterns import Pattern
from steptool_agents.models.tree import Node, Tree, packed
from steptool_agents.models.tree_attention import attend_tree


def beginnings(sequences: list[list[int]]) -> list[int]:
    """Return how many tokens each shares with the one before it."""
    return [0, *(next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))) for a, b in itertools.pairwise(sequences))]


def made(sequences: list[list[int]]) -> tuple[np.ndarray, list[np.ndarray], Tree]:
    return packed([np.array(one) for one in sequences], beginnings(sequences))


def test_a_tree_by_hand() -> None:
    row, paths, tree = made([[1, 2, 3, 4, 5], [1, 2, 6, 7], [1, 2, 6, 8], [9]])
    assert row.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert tree.positions.tolist() == [0, 1, 2, 3, 4, 2, 3, 3, 0]
    assert [path.tolist() for path in paths] == [[0, 1, 2, 3, 4], [0, 1, 5, 6], [0, 1, 5, 7], [8]]
    assert tree.nodes == [Node(0, 2, 8, 0), Node(2, 5, 5, 2), Node(5, 6, 8, 2), Node(6, 7, 7, 3), Node(7, 8, 8, 3), Node(8, 9, 9, 0)]


def test_equal_sequences_and_beginnings_are_there_once() -> None:
    row, paths, tree = made([[1, 2], [1, 2], [1, 2, 3]])
    assert row.tolist() == [1, 2, 3] and [path.tolist() for path in paths] == [[0, 1], [0, 1], [0, 1, 2]]
    assert tree.nodes[0].depth == 0 and tree.nodes[-1].end == 3


sequences = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=8).map(sorted)


@given(sequences)
def test_paths_lead_through_whole_nodes(sequences: list[list[int]]) -> None:
    row, paths, tree = made(sequences)
    assert len(row) == len({tuple(one[: k + 1]) for one in sequences for k in range(len(one))}), "each beginning is there once"
    for sequence, path in zip(sequences, paths, strict=True):
        assert row[path].tolist() == sequence and tree.positions[path].tolist() == list(range(len(path)))
        for node in tree.nodes:
            inside = [place for place in path if node.start <= place < node.end]
            assert inside == list(range(node.start, node.start + len(inside)))
            below = [place for place in path if node.end <= place < node.last]
            assert not below or len(inside) == node.end - node.start, "what is below a node comes after all of it"


def dense(
    query: Tensor, key: Tensor, value: Tensor, paths: list[np.ndarray], tree: Tree, pattern: Pattern | None, cap: float | None, sinks: Tensor | None
) -> Tensor:
    """Attention as its definition says it."""
    total, repeats = query.shape[2], query.shape[1] // key.shape[1]
    seen = torch.zeros(total, total, dtype=torch.bool)
    for path in paths:
        for place, token in enumerate(path):
            seen[token, path[: place + 1]] = True
    if pattern is not None:
        seen &= tree.positions >= pattern.first(tree.positions)[:, None]
    scores = query @ key.repeat_interleave(repeats, 1).transpose(2, 3) * 0.3
    scores = (scores if cap is None else cap * torch.tanh(scores / cap)).masked_fill(~seen, -torch.inf)
    if sinks is not None:
        scores = torch.cat([scores, sinks[None, :, None, None].expand(1, -1, total, 1)], -1)
    return (torch.softmax(scores, -1)[..., :total] @ value.repeat_interleave(repeats, 1)).transpose(1, 2)


PATTERNS = (None, Pattern(5), Pattern(7, chunked=True), Pattern(1))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(PATTERNS), st.sampled_from([None, 2.0]), st.booleans(), st.sampled_from([(8, 8), (8, 6), (6, 8)]), st.booleans())
def test_attention_is_that_along_each_path(
    seed: int, pattern: Pattern | None, cap: float | None, sinking: bool, sizes: tuple[int, int], short_blocks: bool
) -> None:
    rng = random.Random(seed)
    sequences = sorted([rng.randrange(rng.choice([2, 3, 50])) for _ in range(rng.randint(1, 45))] for _ in range(rng.randint(1, 6)))
    row, paths, tree = made(sequences)
    torch.manual_seed(seed)
    query, key, value = (torch.randn(1, heads, len(row), size, requires_grad=True) for heads, size in ((4, sizes[0]), (2, sizes[0]), (2, sizes[1])))
    sinks = torch.randn(4, requires_grad=True) if sinking else None
    inputs = [query, key, value, *([sinks] if sinks is not None else [])]
    expected = dense(query, key, value, paths, tree, pattern, cap, sinks)
    push = torch.randn_like(expected)
    with pytest.MonkeyPatch.context() as patch:
        if short_blocks:
            patch.setattr("steptool_agents.models.tree_attention.BLOCK", 100)
        found = attend_tree(query, key, value, tree, pattern, 0.3, cap, sinks)
        gradients = torch.autograd.grad(found, inputs, push)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)
    for gradient, its in zip(gradients, torch.autograd.grad(expected, inputs, push), strict=True):
        torch.testing.assert_close(gradient, its, atol=1e-5, rtol=1e-5)


def test_in_bfloat16_within_its_rounding() -> None:
    row, paths, tree = made(sorted([[1] * 9 + [k] * (3 + k) for k in range(5)]))
    query, key, value = (torch.randn(1, heads, len(row), 8).bfloat16().requires_grad_() for heads in (4, 2, 2))
    expected = dense(query.float(), key.float(), value.float(), paths, tree, None, None, None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = attend_tree(query, key, value, tree, None, 0.3, None, None)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=0.03, rtol=0.03)
    a, b = torch.autograd.grad(found.float().sum(), query)[0], torch.autograd.grad(expected.sum(), query)[0]
    torch.testing.assert_close(a.float(), b.float(), atol=0.05, rtol=0.05)


def test_who_reads_trees() -> None:
    lm = language_model("gpt2")
    assert lm.reads_trees
    lm.train()
    assert not lm.reads_trees, "sequences would share what dropout drops"
    llama = language_model("llama")
    llama.train()
    assert llama.reads_trees, "it has no dropout"
    llama.keep_own_attention()
    assert not llama.reads_trees


def test_a_model_that_ignores_positions_reads_no_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = language_model("llama")
    forward = nn.Module.__call__
    decoder = lm._parts[0]

    def without_positions(module: nn.Module, *args: object, **kwargs: object) -> object:
        if module is decoder:
            kwargs.pop("position_ids", None)
        return forward(module, *args, **kwargs)

    monkeypatch.setattr(nn.Module, "__call__", without_positions)
    assert not lm._check_trees()
