"""``make_engine``: the engine that a model's architecture allows, found out by trying it on a few tokens.

1. ``Engine``: one cache that all episodes share. Every model whose attention ``models/attention.py`` can compute.
2. ``General``: caches of the model's own kind, put together while sequences write if that gives the same.
3. None: what the model says of a text is not what it says token by token. It can still learn, and be served by another program.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steptool_env.errors import NotSupported

from ..models.attention import ATTENTION, attending
from ..models.language_model import Kept, LanguageModel
from ..models.probe import probe_ids
from ..parallel import sharding
from .admission import Limits
from .cache import SlotCache
from .engine import Engine
from .general import General
from .kept import apart, can_join, has_keys, together
from .reasoning import ReasoningBudget
from .writing import Writing

__all__ = ["Way", "find_way", "make_engine"]

logger = logging.getLogger(__name__)

LENGTHS = (9, 5)
"""The two texts that are tried have so many tokens when writing begins: lengths differ, and a convolution of four tokens is filled."""
TOTAL = 24


@dataclass(frozen=True, slots=True)
class Way:
    """How a model can play."""

    shared: bool
    """Episodes share one cache; then the rest is of no concern."""
    batched: bool = True
    """Caches of the model's own kind can be put together."""
    chunked: bool = True
    """The model continues from such a cache by several tokens at once."""


def make_engine(
    lm: LanguageModel, limits: Limits, ends: Callable[[list[int]], bool], guides: Any = None, budget: ReasoningBudget | None = None
) -> Writing:
    """Return a new engine; see ``Writing`` for the arguments.

    Raises:
        NotSupported: The model has no cache, or none that gives what the model gives without.
    """
    if lm.way is None:
        lm.way = find_way(lm)
    way: Way = lm.way
    if way.shared:
        return Engine(lm, limits, ends, guides, budget)
    return General(lm, limits, ends, guides, budget, batched=way.batched, chunked=way.chunked)


def find_way(lm: LanguageModel) -> Way:
    """Try what an engine does, beside reading whole texts; leaves the model with the attention that goes with the result.

    Raises:
        NotSupported: As above.
    """
    # Rounding alone sends tokens to other experts. Not inference_mode: a sharded model gathers its weights here, and would keep tensors of that mode.
    try:
        with lm.exact() as exact, torch.no_grad():
            return _find_way(lm, 1e-3 if exact else 0.25)
    finally:
        sharding.reshard(lm)  # an optimizer that is made now must get the shards


def _find_way(lm: LanguageModel, tolerance: float) -> Way:
    lm.quiet()
    ids = probe_ids(2 * TOTAL, lm.vocabulary, lm.device).view(2, TOTAL)
    if lm.config._attn_implementation == ATTENTION:
        if _works(lambda: _shared(lm, ids, tolerance)):
            return Way(shared=True)
        lm.keep_own_attention()
    name = lm.config.model_type
    failure = _failure(lambda: _alone(lm, ids, tolerance, chunked=False))
    if failure:
        raise NotSupported(
            f"{name} cannot be played here: {failure}. Serve the model with a program that can, such as vLLM, and name it by servers=http://…; it learns here"
        )
    way = Way(shared=False, batched=_works(lambda: _joined(lm, ids, tolerance)), chunked=_works(lambda: _alone(lm, ids, tolerance, chunked=True)))
    slower = "" if way.batched else ", one after the other"
    slower += "" if way.chunked else ", reading token by token"
    logger.warning("%s: episodes cannot share a cache, so each has one of the model's own kind%s: the same results, but slower", name, slower)
    return way


def _works(attempt: Callable[[], None]) -> bool:
    return not _failure(attempt)


def _failure(attempt: Callable[[], None]) -> str:
    """Return why an attempt fails, in a few words, or "" if it does not."""
    try:
        attempt()
    except NotSupported as fault:
        return str(fault)
    except Exception as fault:  # whatever an architecture's code does with a cache that it does not expect
        return f"its cache fails with {type(fault).__name__}: {(str(fault).splitlines() or [''])[0][:120]}"
    return ""


def _compare(found: Tensor, expected: Tensor, tolerance: float) -> None:
    if found.shape != expected.shape or not bool((found - expected).abs().max() <= tolerance * expected.abs().max()):
        raise NotSupported("with its cache it says something else than without")


def _shared(lm: LanguageModel, ids: Tensor, tolerance: float) -> None:
    whole, cache = lm.hidden(ids), SlotCache()
    cache.arrange([-1, -1])
    start = torch.zeros(2, dtype=torch.long)
    for counts in (torch.tensor(LENGTHS), torch.tensor([1, 1]), torch.tensor([3, 7])):
        width = int(counts.max())
        columns = start[:, None] + torch.arange(width)
        positions = cache.place(slice(0, 2), counts, width, lm.device)
        with attending(cache):
            hidden = lm.hidden(ids.gather(1, columns.to(lm.device)), position_ids=positions, past_key_values=cache, use_cache=True)
        if not cache.calls:
            raise NotSupported("it does not use the attention that it is given")
        for row, count in enumerate(counts.tolist()):
            _compare(hidden[row, :count], whole[row, int(start[row]) : int(start[row]) + count], tolerance)
        start = start + counts


def _read(lm: LanguageModel, ids: Tensor, begin: int, end: int, kept: Kept) -> Tensor:
    """Return the hidden states of some tokens of a text (1, L)."""
    positions = torch.arange(begin, end, device=lm.device)[None]
    hidden = lm.hidden(ids[:, begin:end], kept, position_ids=positions)
    if kept.cache is None:
        raise NotSupported("it has no cache")
    return hidden


def _alone(lm: LanguageModel, ids: Tensor, tolerance: float, *, chunked: bool) -> None:
    text = ids[:1]
    whole, kept, begin = lm.hidden(text), lm.nothing_kept(), 0
    for end in (LENGTHS[0], LENGTHS[0] + 7, TOTAL) if chunked else (LENGTHS[0], LENGTHS[0] + 1, LENGTHS[0] + 2):
        _compare(_read(lm, text, begin, end, kept), whole[:, begin:end], tolerance)
        begin = end


def _joined(lm: LanguageModel, ids: Tensor, tolerance: float) -> None:
    whole, keeps = lm.hidden(ids), []
    for row, length in enumerate(LENGTHS):
        keeps.append(lm.nothing_kept())
        _read(lm, ids[row : row + 1], 0, length, keeps[-1])
    if not all(map(can_join, keeps)):
        raise NotSupported("its cache is of a class of its own")
    kept, lengths = together(keeps, LENGTHS), torch.tensor(LENGTHS, device=lm.device)
    for _ in range(2):
        options: dict[str, Any] = {"position_ids": lengths[:, None]}
        if has_keys(kept):
            longest = int(lengths.max())
            options["attention_mask"] = (torch.arange(longest + 1, device=lm.device) >= (longest - lengths)[:, None]).long()
        places = lengths[:, None]
        hidden = lm.hidden(ids.gather(1, places), kept, **options)[:, 0]
        _compare(hidden, whole[torch.arange(2), lengths.cpu()], tolerance)
        lengths = lengths + 1
    for row, own in enumerate(apart(kept, lengths.tolist())):
        length = int(lengths[row])
        _compare(_read(lm, ids[row : row + 1], length, length + 1, own), whole[row : row + 1, length : length + 1], tolerance)
