"""Fifty ways of writing a typed function, each with a valid call and what a model should read of it; for ``function_variants.py``."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import pathlib
import uuid
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, NamedTuple, Optional

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field
from typing_extensions import TypedDict  # before Python 3.12, pydantic takes no other

__all__ = ["VARIANTS", "Variant"]


class Variant(NamedTuple):
    """One function."""

    title: str
    function: Any
    arguments: dict[str, Any]
    """A valid call, as JSON."""
    result: Any
    """What a model should read: as JSON, or a text."""
    told: tuple[str, ...] = ()
    """What must stand in the schema that a model reads."""


VARIANTS: list[Variant] = []


def variant(title: str, arguments: dict[str, Any], result: Any, *told: str) -> Callable[[Any], Any]:
    """Add a function to the list."""

    def add(function: Any) -> Any:
        VARIANTS.append(Variant(title, function, arguments, result, told))
        return function

    return add


class Color(enum.Enum):
    """A color."""

    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    """Where somebody lives."""

    street: str
    zip: int = 0


@dataclasses.dataclass
class Point:
    """A place."""

    x: float
    y: float = 0.0


class Size(TypedDict):
    """How large."""

    width: int
    height: int


class Pair(NamedTuple):
    """Two numbers."""

    first: int
    second: int


# ---------------------------------------------------------------- what is called
@variant("a function", {"a": 2, "b": 3}, 5, "The first number.")
def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: The first number.
        b: The second number.
    """
    return a + b


@variant("a default", {"a": 2}, 3, '"default": 1')
def add_default(a: int, b: int = 1) -> int:
    """Add two numbers.

    Args:
        a: The first number.
        b: The second number.
    """
    return a + b


@variant("a parameter by name only (`*, b`)", {"a": 2, "b": 3}, 5)
def add_named(a: int, *, b: int) -> int:
    """Add two numbers.

    Args:
        a: The first number.
        b: The second number.
    """
    return a + b


@variant("a parameter by position only (`a, /`)", {"a": 2, "b": 3}, 5)
def add_positional(a: int, /, b: int) -> int:
    """Add two numbers.

    Args:
        a: The first number.
        b: The second number.
    """
    return a + b


@variant("`*numbers`", {"numbers": [2, 3]}, 5)
def add_all(*numbers: int) -> int:
    """Add numbers.

    Args:
        numbers: The numbers.
    """
    return sum(numbers)


@variant("`**options`", {"a": 2, "b": 3}, 5)
def add_options(**options: int) -> int:
    """Add numbers.

    Args:
        options: The numbers.
    """
    return sum(options.values())


@variant("a parameter called `schema`", {"schema": "s"}, "s")
def odd_name(schema: str) -> str:
    """Say it again.

    Args:
        schema: What to say.
    """
    return schema


class Shop:
    """Has methods."""

    price = 7

    def cost(self, count: int) -> int:
        """What some of them cost.

        Args:
            count: How many.
        """
        return self.price * count

    @classmethod
    def cost_of_class(cls, count: int) -> int:
        """What some of them cost.

        Args:
            count: How many.
        """
        return cls.price * count

    @staticmethod
    def twice(count: int) -> int:
        """Two times as many.

        Args:
            count: How many.
        """
        return 2 * count

    async def later(self, count: int) -> int:
        """What some of them cost.

        Args:
            count: How many.
        """
        return self.price * count


variant("a method", {"count": 2}, 14, "How many.")(Shop().cost)
variant("a class method", {"count": 2}, 14)(Shop.cost_of_class)
variant("a static method", {"count": 2}, 4)(Shop.twice)
variant("`functools.partial`, bound by position", {"b": 3}, 5, "The second number.")(functools.partial(add, 2))
variant("`functools.partial`, bound by name", {"a": 3}, 5, "The first number.")(functools.partial(add, b=2))


class Multiply:
    """Multiplies."""

    def __init__(self, by: int) -> None:
        self.by = by

    def __call__(self, number: int) -> int:
        """Multiply a number.

        Args:
            number: The number.
        """
        return self.by * number


variant("a callable object", {"number": 3}, 6, "The number.")(Multiply(2))
variant("a class", {"x": 1}, {"x": 1.0, "y": 0.0})(Point)


def _wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


variant("behind a decorator (`functools.wraps`)", {"a": 2, "b": 3}, 5, "The first number.")(_wrapped(add))
variant("behind `functools.cache`", {"a": 2, "b": 3}, 5, "The first number.")(functools.cache(add))


@variant("`async def`", {"a": 2, "b": 3}, 5, "The first number.")
async def add_async(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: The first number.
        b: The second number.
    """
    return a + b


variant("an async method", {"count": 2}, 14)(Shop().later)
variant("a partial of an async function", {"b": 3}, 5)(functools.partial(add_async, 2))


# ---------------------------------------------------------------- hints
@variant("`Literal`", {"unit": "mm"}, "mm", "inch")
def take_literal(unit: Literal["mm", "inch"]) -> str:
    """Take it.

    Args:
        unit: The unit.
    """
    return unit


@variant("an enum", {"color": "red"}, "Color.RED", "blue")
def take_enum(color: Color) -> str:
    """Take it.

    Args:
        color: The color.
    """
    return str(color)


@variant("a date", {"day": "2024-02-29"}, "2024")
def take_date(day: datetime.date) -> str:
    """Take it.

    Args:
        day: The day.
    """
    return str(day.year)


@variant("a UUID", {"key": "00000000-0000-0000-0000-000000000001"}, "1")
def take_uuid(key: uuid.UUID) -> str:
    """Take it.

    Args:
        key: The key.
    """
    return str(key.int)


@variant("a path", {"file": "a/b.txt"}, ".txt")
def take_path(file: pathlib.Path) -> str:
    """Take it.

    Args:
        file: The file.
    """
    return file.suffix


@variant("a decimal", {"amount": "1.10"}, "2.20")
def take_decimal(amount: decimal.Decimal) -> str:
    """Take it.

    Args:
        amount: The amount.
    """
    return str(2 * amount)


@variant("a pydantic model", {"home": {"street": "Elm"}}, "Elm 0", "street")
def take_model(home: Address) -> str:
    """Take it.

    Args:
        home: The address.
    """
    return f"{home.street} {home.zip}"


@variant("a list of models", {"homes": [{"street": "Elm"}, {"street": "Oak"}]}, "Oak", "street")
def take_models(homes: list[Address]) -> str:
    """Take them.

    Args:
        homes: The addresses.
    """
    return homes[-1].street


@variant("a dataclass", {"at": {"x": 1}}, "1.0 0.0")
def take_dataclass(at: Point) -> str:
    """Take it.

    Args:
        at: The place.
    """
    return f"{float(at.x)} {at.y}"


@variant("a `TypedDict`", {"size": {"width": 2, "height": 3}}, 6, "width")
def take_typed_dict(size: Size) -> int:
    """Take it.

    Args:
        size: The size.
    """
    return size["width"] * size["height"]


@variant("a set", {"words": ["a", "b"]}, 2)
def take_set(words: set[str]) -> int:
    """Take them.

    Args:
        words: The words.
    """
    return len(words)


@variant("`dict[str, int]`", {"counts": {"a": 1, "b": 2}}, 3)
def take_dict(counts: dict[str, int]) -> int:
    """Take them.

    Args:
        counts: The counts.
    """
    return sum(counts.values())


@variant("`Optional`", {"note": None}, "none")
def take_optional(note: Optional[str] = None) -> str:  # noqa: UP045
    """Take it.

    Args:
        note: The note.
    """
    return "none" if note is None else note


@variant("a union", {"key": 7}, 8)
def take_union(key: int | str) -> int:
    """Take it.

    Args:
        key: The key.
    """
    return int(key) + 1


@variant("`Annotated[str, Field(description=…)]`", {"city": "Rome"}, "Rome", "Where it is.")
def take_annotated(city: Annotated[str, Field(description="Where it is.")]) -> str:
    """Take it."""
    return city


@variant("`= Field(…)` with a default", {}, "Rome", "Where it is.")
def take_field(city: str = Field(default="Rome", description="Where it is.")) -> str:
    """Take it."""
    return city


@variant("bounds (`Field(ge=1)`)", {"count": 2}, 2, "minimum")
def take_bounds(count: Annotated[int, Field(ge=1)]) -> int:
    """Take it.

    Args:
        count: How many.
    """
    return count


@variant('`Annotated[str, "…"]`', {"city": "Rome"}, "Rome", "Where it is.")
def take_plainly_annotated(city: Annotated[str, "Where it is."]) -> str:
    """Take it."""
    return city


# ---------------------------------------------------------------- docstrings
@variant("a docstring in NumPy's style", {"a": 2}, 2, "The first number.")
def numpy_style(a: int) -> int:
    """Say a number again.

    Parameters
    ----------
    a : int
        The first number.

    Returns
    -------
    int
        The number.
    """
    return a


@variant("a docstring in Sphinx's style", {"a": 2}, 2, "The first number.")
def sphinx_style(a: int) -> int:
    """Say a number again.

    :param a: The first number.
    :returns: The number.
    """
    return a


# ---------------------------------------------------------------- results
@variant("returns a pydantic model", {}, {"street": "Elm", "zip": 7})
def give_model() -> Address:
    """Give one."""
    return Address(street="Elm", zip=7)


@variant("returns a list of dataclasses", {}, [{"x": 1.0, "y": 0.0}])
def give_dataclasses() -> list[Point]:
    """Give some."""
    return [Point(1.0)]


@variant("returns a named tuple", {}, [1, 2])
def give_pair() -> Pair:
    """Give two."""
    return Pair(1, 2)


@variant("returns dates", {}, {"from": "2024-02-29", "to": "2024-03-01T12:00:00"})
def give_dates() -> dict[str, Any]:
    """Give some."""
    return {"from": datetime.date(2024, 2, 29), "to": datetime.datetime(2024, 3, 1, 12)}


@variant("returns a decimal, a UUID, a path and an enum", {}, ["1.10", "00000000-0000-0000-0000-000000000001", "a/b", "red"])
def give_leaves() -> list[Any]:
    """Give some."""
    return [decimal.Decimal("1.10"), uuid.UUID(int=1), pathlib.Path("a/b"), Color.RED]


@variant("returns a set", {}, ["a", "b", "c"])
def give_set() -> set[str]:
    """Give some."""
    return {"c", "a", "b"}


@variant("returns NumPy's arrays and numbers", {}, {"mean": 1.5, "values": [1, 2]})
def give_numpy() -> dict[str, Any]:
    """Give some."""
    return {"mean": np.float32(1.5), "values": np.array([1, 2])}


@variant("returns a pandas frame", {}, [{"name": "lamp", "price": 30.0}, {"name": "desk", "price": None}])
def give_frame() -> pd.DataFrame:
    """Give one."""
    return pd.DataFrame({"name": ["lamp", "desk"], "price": [30.0, None]})


@variant("returns a pandas series", {}, {"lamp": 30, "desk": 120})
def give_series() -> pd.Series:
    """Give one."""
    return pd.Series({"lamp": 30, "desk": 120})


# ---------------------------------------------------------------- what nobody can show
class Opaque:
    """Has no content."""


@variant("returns an object of a class of its own", {}, None)
def give_object() -> Any:
    """Give one."""
    return Opaque()


@variant("yields its results", {}, [1, 2])
def give_one_by_one() -> Iterator[int]:
    """Give some."""
    yield 1
    yield 2
