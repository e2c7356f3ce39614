"""Checks of arguments: arrays of the right shape with finite numbers, or ``InvalidArgument`` with the name of the argument."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steptool_env.errors import InvalidArgument

from .episodes import Floats

__all__ = ["as_floats", "as_mask", "as_number", "as_vector", "check_finite", "check_unit"]


def as_floats(name: str, value: ArrayLike) -> Floats:
    """Return a float64 array of any shape."""
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as fault:
        raise InvalidArgument(f"{name} must be an array of numbers, got {type(value).__name__}: {fault}") from fault


def check_finite(name: str, array: Floats) -> Floats:
    """Return the array if all its entries are finite."""
    if not np.isfinite(array).all():
        where = tuple(int(k) for k in np.argwhere(~np.isfinite(array))[0])
        raise InvalidArgument(f"{name} must be finite, got {array[where]} at index {', '.join(map(str, where))}")
    return array


def as_vector(name: str, value: ArrayLike, like: Floats | None = None, like_name: str = "") -> Floats:
    """Return a finite float64 array (T,), of the shape of ``like`` if given."""
    array = as_floats(name, value)
    if array.ndim != 1:
        raise InvalidArgument(f"{name} must have one axis, got shape {array.shape}; pass one episode at a time")
    check_same_shape(name, array, like, like_name)
    return check_finite(name, array)


def as_mask(name: str, value: ArrayLike, like: Floats, like_name: str) -> NDArray[np.bool_]:
    """Return a bool array of the shape of ``like``."""
    array: NDArray[Any] = np.asarray(value)
    check_same_shape(name, array, like, like_name)
    if array.dtype != np.bool_ and not np.isin(array, (0, 1)).all():
        raise InvalidArgument(f"{name} must hold only True and False (or 1 and 0), got dtype {array.dtype}")
    return array.astype(np.bool_)


def check_same_shape(name: str, array: NDArray[Any], like: Floats | None, like_name: str) -> None:
    """Refuse an array whose shape differs from that of ``like``, if given."""
    if like is not None and array.shape != like.shape:
        raise InvalidArgument(f"{name} has shape {array.shape}, but {like_name} has shape {like.shape}; they must be equal")


def as_number(name: str, value: float) -> float:
    """Return one finite number."""
    array = check_finite(name, as_floats(name, value))
    if array.ndim:
        raise InvalidArgument(f"{name} must be one number, got shape {array.shape}")
    return float(array)


def check_unit(name: str, value: float) -> None:
    """Refuse a number outside [0, 1]."""
    if not 0.0 <= as_number(name, value) <= 1.0:
        raise InvalidArgument(f"{name} must be in [0, 1], got {value!r}")
