"""``PrefixPool``: common prefixes of the sequences of an ``Engine``, encoded once and kept for later sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .admission import TokenSequence
from .cache import Prefix

__all__ = ["PrefixPool"]

SHARED = 64
"""The shortest prefix, in tokens, that is kept apart; it must also be at least half of the sequence."""
REMEMBERED = 256
"""How many recent first observations are remembered, to find what later ones have in common with them."""


class PrefixPool:
    """The prefixes that are in memory.

    Args:
        encode: Encodes token ids into a prefix.
    """

    def __init__(self, encode: Callable[[list[int]], Prefix]) -> None:
        self.encode = encode
        self.prefixes: list[Prefix] = []
        self._seen: list[list[int]] = []

    def share(self, new: Sequence[TokenSequence]) -> None:
        """Assign new sequences the longest prefixes that they share with others, encoding those that are not in the pool yet."""
        for sequence in new:
            for prefix in self.prefixes:
                length = _common_length(sequence.ids, prefix.ids)
                if _worth_sharing(length, sequence.ids) and length > sequence.shared:
                    sequence.prefix, sequence.shared = prefix, min(length, len(sequence.ids) - 1)
        unmatched = sorted((sequence for sequence in new if sequence.prefix is None and len(sequence.ids) > SHARED), key=lambda sequence: sequence.ids)
        while unmatched:
            group = [unmatched.pop()]
            earlier = max((_common_length(group[0].ids, ids) for ids in self._seen), default=0)
            length = earlier if _worth_sharing(earlier, group[0].ids) else len(group[0].ids)
            while unmatched and _worth_sharing(common := _common_length(group[-1].ids, unmatched[-1].ids), unmatched[-1].ids):
                length = min(length, common)
                group.append(unmatched.pop())
            length = min(length, min(len(sequence.ids) for sequence in group) - 1)
            if (len(group) > 1 or _worth_sharing(earlier, group[0].ids)) and _worth_sharing(length, group[0].ids):
                prefix = self.encode(group[0].ids[:length])
                self.prefixes.append(prefix)
                for sequence in group:
                    sequence.prefix, sequence.shared = prefix, length
        for sequence in new:
            if len(sequence.ids) > SHARED and not (sequence.prefix is not None and len(sequence.prefix.ids) == sequence.shared):
                self._seen.append(sequence.ids[: sequence.prompt_length])
        del self._seen[:-REMEMBERED]

    def trim(self, sequences: Sequence[TokenSequence], room: int) -> None:
        """Drop unused prefixes, the oldest first, until the unused ones that are left hold at most ``room`` tokens.

        Args:
            sequences: All running sequences: what they use stays.
            room: In tokens.
        """
        used = {id(sequence.prefix) for sequence in sequences}
        spare = [prefix for prefix in self.prefixes if id(prefix) not in used]
        while spare and sum(len(prefix.ids) for prefix in spare) > room:
            self.prefixes.remove(spare.pop(0))


def _common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """Return the length of the common prefix."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while low < high:  # bisection: comparing slices is fast, comparing tokens one by one is not
        middle = (low + high + 1) // 2
        if a[:middle] == b[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _worth_sharing(length: int, ids: Sequence[int]) -> bool:
    return length >= SHARED and 2 * length >= len(ids)
