"""``PrefixPool``: what several sequences of an ``Engine`` begin with, encoded once and kept for the next ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .admission import TokenSequence
from .cache import Prefix

__all__ = ["PrefixPool"]

SHARED = 64
"""The shortest beginning, in tokens, that gets a memory of its own; it must also be half of what it begins."""
REMEMBERED = 256
"""Of so many recent first observations the ids are known, to see what the next ones have in common with them."""


class PrefixPool:
    """The prefixes that are in memory.

    Args:
        encode: Reads tokens and returns them as a prefix.
    """

    def __init__(self, encode: Callable[[list[int]], Prefix]) -> None:
        self.encode = encode
        self.prefixes: list[Prefix] = []
        self._seen: list[list[int]] = []

    def share(self, new: Sequence[TokenSequence]) -> None:
        """Give new sequences the prefixes that they have in common with others, encoding those that are not there yet."""
        for one in new:
            for prefix in self.prefixes:
                length = _common(one.ids, prefix.ids)
                if _worth(length, one.ids) and length > one.shared:
                    one.prefix, one.shared = prefix, min(length, len(one.ids) - 1)
        alone = sorted((one for one in new if one.prefix is None and len(one.ids) > SHARED), key=lambda one: one.ids)
        while alone:
            group = [alone.pop()]
            earlier = max((_common(group[0].ids, ids) for ids in self._seen), default=0)
            length = earlier if _worth(earlier, group[0].ids) else len(group[0].ids)
            while alone and _worth(common := _common(group[-1].ids, alone[-1].ids), alone[-1].ids):
                length = min(length, common)
                group.append(alone.pop())
            length = min(length, min(len(one.ids) for one in group) - 1)
            if (len(group) > 1 or _worth(earlier, group[0].ids)) and _worth(length, group[0].ids):
                prefix = self.encode(group[0].ids[:length])
                self.prefixes.append(prefix)
                for one in group:
                    one.prefix, one.shared = prefix, length
        for one in new:
            if len(one.ids) > SHARED and not (one.prefix is not None and len(one.prefix.ids) == one.shared):
                self._seen.append(one.ids[: one.prompt_length])
        del self._seen[:-REMEMBERED]

    def trim(self, sequences: Sequence[TokenSequence], room: int) -> None:
        """Forget prefixes that none of the sequences has, the oldest first, until the others of that kind hold at most ``room`` tokens."""
        used = {id(one.prefix) for one in sequences}
        spare = [prefix for prefix in self.prefixes if id(prefix) not in used]
        while spare and sum(len(prefix.ids) for prefix in spare) > room:
            self.prefixes.remove(spare.pop(0))


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Return the length of what two sequences begin with."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while low < high:  # halving: comparing slices is fast, comparing tokens one by one is not
        middle = (low + high + 1) // 2
        if a[:middle] == b[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _worth(length: int, ids: Sequence[int]) -> bool:
    return length >= SHARED and 2 * length >= len(ids)
