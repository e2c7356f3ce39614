"""``load_scheme``: a credit scheme by name, or your own by reference."""

from __future__ import annotations

import numpy as np

from steptool_env import reference
from steptool_env.errors import InvalidArgument, UnknownName

from .episodes import Episodes, Floats
from .schemes import CREDIT, SCALING, Scaling, Scheme

__all__ = ["credited", "load_scheme", "scaling_of"]

_SCALINGS = ("whiten", "scale", "none")


def load_scheme(name: str) -> Scheme:
    """Return a credit scheme.

    Args:
        name: One of ``CREDIT``, or your own: ``"module:function"``, ``"path/to/file.py"`` (its function ``credit``), or
            ``"path/to/file.py:function"``. It takes ``(episodes, gamma, lam)`` and returns advantages, see ``Scheme``.

    Raises:
        UnknownName: There is no such scheme.
        InvalidArgument: The file or module cannot be imported, or has no such function.
    """
    if name in CREDIT:
        return CREDIT[name]
    if not reference.is_reference(name):
        raise UnknownName("credit scheme", name, [*CREDIT, *reference.FORMS])
    found = reference.find(name, "credit scheme", default="credit")
    if not callable(found) or isinstance(found, type):
        raise InvalidArgument(f"credit scheme {name!r} must be a function that takes (episodes, gamma, lam), got {found!r:.200}")
    return found  # type: ignore[no-any-return]


def scaling_of(name: str) -> Scaling:
    """Return how the advantages of a scheme are scaled over the batch: as ``SCALING`` says, or, for your own, its attribute ``scaling``."""
    if name in CREDIT:
        return SCALING.get(name, "whiten")
    chosen: Scaling = getattr(load_scheme(name), "scaling", "whiten")
    if chosen not in _SCALINGS:
        raise InvalidArgument(f"the scaling of credit scheme {name!r} must be one of {', '.join(_SCALINGS)}, got {chosen!r}")
    return chosen


def credited(name: str, episodes: Episodes, gamma: float, lam: float) -> Floats:
    """Return the advantages that a scheme gives, (B, T) over steps or (B, T, K) over action tokens, checked where the scheme is your own.

    Raises:
        UnknownName: There is no such scheme.
        InvalidArgument: Your own scheme returned another shape, or a number that is not finite where there is a step.
    """
    scheme = load_scheme(name)
    if name in CREDIT:
        return scheme(episodes, gamma, lam)
    try:
        advantages = np.asarray(scheme(episodes, gamma, lam), dtype=np.float64)
    except (TypeError, ValueError) as fault:
        raise InvalidArgument(f"credit scheme {name!r} must return an array of numbers: {fault}") from fault
    shapes = {2: episodes.live.shape, 3: episodes.token_mask.shape}
    if advantages.shape != shapes.get(advantages.ndim):
        raise InvalidArgument(f"credit scheme {name!r} must return advantages of shape {shapes[2]} or {shapes[3]}, got {advantages.shape}")
    if not np.isfinite(advantages[episodes.live if advantages.ndim == 2 else episodes.token_mask]).all():
        raise InvalidArgument(f"credit scheme {name!r} returned advantages that are not finite; every step needs a number")
    return advantages
