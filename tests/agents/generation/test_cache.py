"""The cache of many episodes: rows of different lengths, that come, go and change places."""

from __future__ import annotations

import pytest
import torch
from lms import language_model
from torch import Tensor

from steptool_agents.generation.cache import SlotCache
from steptool_agents.models.attention import attending
from steptool_agents.models.language_model import LanguageModel


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return language_model("llama")


@torch.no_grad()
def append(lm: LanguageModel, cache: SlotCache, rows: slice | Tensor, feeds: list[list[int]]) -> list[Tensor]:
    """Append tokens to rows; return the hidden states of the real ones, row by row."""
    width = max(map(len, feeds))
    ids = torch.tensor([feed + [7] * (width - len(feed)) for feed in feeds])
    positions = cache.place(rows, torch.tensor([len(feed) for feed in feeds]), width, lm.device)
    with attending(cache):
        hidden = lm.hidden(ids, position_ids=positions, past_key_values=cache, use_cache=True)
    return [states[: len(feed)] for states, feed in zip(hidden, feeds, strict=True)]


@torch.no_grad()
def same(lm: LanguageModel, states: Tensor, sequence: list[int]) -> None:
    """The states of the last tokens are those of the whole sequence, read at once."""
    torch.testing.assert_close(states, lm.hidden(torch.tensor([sequence]))[0, -len(states) :], atol=1e-4, rtol=1e-4)


def test_rows_of_different_lengths(lm: LanguageModel) -> None:
    cache = SlotCache()
    cache.arrange([-1, -1, -1])
    first = [[3, 4, 5, 6, 7, 8, 9], [10], [11, 12, 13]]
    second = [[14], [15, 16, 17, 18, 19], [20, 21]]
    for states, sequence in zip(append(lm, cache, slice(0, 3), first), first, strict=True):
        same(lm, states, sequence)
    for states, a, b in zip(append(lm, cache, slice(0, 3), second), first, second, strict=True):
        same(lm, states, a + b)
    assert cache.lengths.tolist() == [8, 6, 5]
    assert cache.get_seq_length() == 8


def test_chosen_rows_go_on_alone(lm: LanguageModel) -> None:
    cache = SlotCache()
    cache.arrange([-1, -1, -1])
    first = [[3, 4, 5, 6, 7, 8, 9], [10], [11, 12, 13]]
    append(lm, cache, slice(0, 3), first)
    for states, a, b in zip(append(lm, cache, torch.tensor([0, 2]), [[14], [20, 21]]), (first[0], first[2]), ([14], [20, 21]), strict=True):
        same(lm, states, a + b)
    assert cache.lengths.tolist() == [8, 1, 5]
    for states, a, b in zip(append(lm, cache, slice(0, 3), [[1], [2], [3]]), ([*first[0], 14], first[1], [*first[2], 20, 21]), ([1], [2], [3]), strict=True):
        same(lm, states, a + b)


def test_rows_come_go_and_change_places(lm: LanguageModel) -> None:
    cache = SlotCache()
    cache.arrange([-1, -1, -1])
    first = [[3, 4, 5, 6, 7, 8, 9], [10], [11, 12, 13]]
    append(lm, cache, slice(0, 3), first)
    cache.arrange([2, -1, 1])  # the third, a new one, the second; the first has ended
    assert cache.lengths.tolist() == [3, 0, 1]
    second = [[14], [15, 16, 17, 18, 19], [20, 21]]
    before = [first[2], [], first[1]]
    for states, a, b in zip(append(lm, cache, slice(0, 3), second), before, second, strict=True):
        same(lm, states, a + b)
    cache.arrange([1])
    (states,) = append(lm, cache, slice(0, 1), [[22, 23]])
    same(lm, states, [*second[1], 22, 23])


def test_some_rows_at_a_time(lm: LanguageModel) -> None:
    cache = SlotCache()
    cache.arrange([-1, -1, -1])
    append(lm, cache, slice(0, 1), [[3, 4, 5]])
    append(lm, cache, slice(1, 3), [[6], [7, 8, 9, 10, 11]])
    (states,) = append(lm, cache, slice(1, 2), [[12, 13]])
    same(lm, states, [6, 12, 13])
    assert cache.lengths.tolist() == [3, 3, 5]


def test_nothing_is_appended_to_a_row(lm: LanguageModel) -> None:
    cache = SlotCache()
    cache.arrange([-1, -1])
    append(lm, cache, slice(0, 2), [[3, 4], [5, 6]])
    append(lm, cache, slice(0, 2), [[], [7, 8, 9]])  # its padding is written, but overwritten by what comes next
    states = append(lm, cache, slice(0, 2), [[10, 11], [12]])
    same(lm, states[0], [3, 4, 10, 11])
    same(lm, states[1], [5, 6, 7, 8, 9, 12])


def test_a_long_row_grows_in_few_steps(lm: LanguageModel) -> None:
    cache = SlotCache()
    cache.arrange([-1])
    sizes = set()
    for token in range(100):
        (states,) = append(lm, cache, slice(0, 1), [[3 + token]])
        sizes.add(cache._keys[0].shape[2])
    same(lm, states, [3 + token for token in range(100)])
    assert len(sizes) < 8


def test_all_rows_new() -> None:
    lm = language_model("llama")
    cache = SlotCache()
    assert cache.get_seq_length() == 0
    cache.arrange([-1, -1])
    append(lm, cache, slice(0, 2), [[3], [4]])
    cache.arrange([-1, -1, -1])
    assert cache.lengths.tolist() == [0, 0, 0]
    states = append(lm, cache, slice(0, 3), [[5, 6], [7], [8]])
    same(lm, states[0], [5, 6])


def test_keys_are_kept_as_attention_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under autocast, rotary embeddings leave keys in float32: kept so, they would take twice the memory, and be rounded in every pass."""
    lm = language_model("llama")
    lm.autocast = True
    feeds = [[[3, 4, 5, 6, 7], [10]], [[14], [15, 16, 17]], [[20], [21]]]

    def states() -> tuple[SlotCache, list[Tensor]]:
        cache = SlotCache()
        cache.arrange([-1, -1])
        return cache, [row for some in feeds for row in append(lm, cache, slice(0, 2), some)]

    cache, rounded = states()
    assert {layer.dtype for layer in (*cache._keys, *cache._values)} == {torch.bfloat16}
    monkeypatch.setattr("steptool_agents.generation.cache._autocast", lambda device: None)
    cache, whole = states()
    assert {layer.dtype for layer in cache._keys} == {torch.float32}
    assert all(torch.equal(a, b) for a, b in zip(rounded, whole, strict=True))
