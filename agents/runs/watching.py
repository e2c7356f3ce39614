"""Watchers: functions that see a run after every update, for early stopping, one's own evaluation, or the pruning of a search.

    def stop_early(run: Run) -> None:
        if run.spent["env_steps"] > 5_000 and solved(run.lm) < 0.1:
            raise Hopeless

    with watching(stop_early):
        load_algorithm("step-ppo")(config, out)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .run import Run

__all__ = ["tell_watchers", "watching"]

Watcher = Callable[["Run"], None]

_WATCHERS: ContextVar[tuple[Watcher, ...]] = ContextVar("watchers", default=())


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Call a function after every update of the runs that happen within; the update is logged by then, and its checkpoint written.

    What it raises ends the run, which can be resumed from that update. It may use the run's model; it must not change it, nor draw from
    its random generators: a run that is watched must end with the same weights.

    Args:
        watcher: Takes the ``Run``. With several processes, each of them calls its own.
    """
    token = _WATCHERS.set((*_WATCHERS.get(), watcher))
    try:
        yield
    finally:
        _WATCHERS.reset(token)


def tell_watchers(run: Run) -> None:
    """Call all watchers, in the order in which they came."""
    for watcher in _WATCHERS.get():
        watcher(run)
