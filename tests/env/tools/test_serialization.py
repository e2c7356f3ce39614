"""What tools may return."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import pathlib
import subprocess
import sys
import types
import uuid
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_serializer

from steptool_env.tools.serialization import NoResult, as_text


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Item(BaseModel):
    name: str = Field(serialization_alias="itemName")
    tags: set[str] = set()
    day: datetime.date | None = None
    price: decimal.Decimal = decimal.Decimal(1)

    @field_serializer("price", when_used="json")
    def _price(self, price: decimal.Decimal) -> str:
        return f"{price} EUR"


@dataclasses.dataclass
class Point:
    x: float
    where: pathlib.Path


class Picture(BaseModel, ser_json_bytes="base64"):
    data: bytes


class Pair(NamedTuple):
    first: int
    second: int


WHEN = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
TEXTS: list[tuple[Any, Any]] = [
    (Item(name="a", tags={"z", "b", "a"}), {"name": "a", "tags": ["a", "b", "z"], "day": None, "price": "1 EUR"}),
    ([Item(name="a", day=WHEN.date())], [{"name": "a", "tags": [], "day": "2024-02-29", "price": "1 EUR"}]),
    (Point(1.5, pathlib.Path("a/b")), {"x": 1.5, "where": "a/b"}),
    ({"at": Point(1.5, pathlib.Path("a"))}, {"at": {"x": 1.5, "where": "a"}}),
    (Picture(data=b"text"), {"data": "dGV4dA=="}),
    (pathlib.PureWindowsPath("a"), "a"),
    (WHEN, "2024-02-29T12:00:00Z"),
    (WHEN.date(), "2024-02-29"),
    (WHEN.time(), "12:00:00"),
    (datetime.timedelta(hours=1), "PT1H"),
    (decimal.Decimal("1.10"), "1.10"),
    (Color.RED, "red"),
    (Level.HIGH, 3),
    ({Color.RED: 1, WHEN.date(): 2, uuid.UUID(int=1): 3}, {"red": 1, "2024-02-29": 2, "00000000-0000-0000-0000-000000000001": 3}),
    ({3, 10, 2}, [10, 2, 3]),
    ({"a": frozenset({"y", "x"})}, {"a": ["x", "y"]}),
    (Pair(1, 2), [1, 2]),
    (collections.deque([1]), [1]),
    (collections.Counter("aab"), {"a": 2, "b": 1}),
    (types.MappingProxyType({"a": {1}}), {"a": [1]}),
    ({"b": 1, "a": 2}.keys(), ["a", "b"]),
    (range(3), [0, 1, 2]),
    (np.float32(1.5), 1.5),
    (np.float64(1.5), 1.5),
    (np.int64(3), 3),
    (np.bool_(True), True),
    (np.str_("a"), "a"),
    (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    ({"m": np.array([1.5]), "n": np.int8(1)}, {"m": [1.5], "n": 1}),
    (np.array(["a", None, {"b": np.int64(1)}], dtype=object), ["a", None, {"b": 1}]),
    (np.array(["2024-02-29", "NaT"], dtype="datetime64[D]"), ["2024-02-29", None]),
    (np.datetime64("2024-02-29"), "2024-02-29"),
]


@pytest.mark.parametrize(("value", "expected"), TEXTS, ids=range(len(TEXTS)))
def test_values_become_json(value: Any, expected: Any) -> None:
    text = as_text(value)
    assert text == expected if isinstance(value, str) else json.loads(text) == expected


def test_values_of_pandas_become_json() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed: pip install pandas")
    frame = pandas.DataFrame({"n": [1, 2], "p": [1.5, None], "t": pandas.to_datetime(["2024-02-29", None])})
    rows = [{"n": 1, "p": 1.5, "t": "2024-02-29T00:00:00"}, {"n": 2, "p": None, "t": None}]
    cases: list[tuple[Any, Any]] = [
        (frame, rows),
        ({"rows": frame}, {"rows": rows}),
        (frame.set_index("n")["p"], {"1": 1.5, "2": None}),
        (frame.set_index("n")[["p"]], [{"n": 1, "p": 1.5}, {"n": 2, "p": None}]),
        (frame["n"], [1, 2]),
        (frame["n"].sum(), 3),
        (frame["t"][0], "2024-02-29T00:00:00"),
        (frame.iloc[1].to_dict(), rows[1]),
        (pandas.Index(["a", "b"]), ["a", "b"]),
        ([pandas.NaT, pandas.NA], [None, None]),
        (pandas.NaT, None),
        (pandas.Period("2024-02"), "2024-02"),
        (pandas.array([1, None], dtype="Int64"), [1, None]),
        (frame["n"].astype("category"), [1, 2]),
    ]
    for value, expected in cases:
        assert json.loads(as_text(value)) == expected, value


class Rude:
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Broken(BaseModel):
    x: int = 1

    @field_serializer("x")
    def _x(self, x: int) -> str:
        raise LookupError("the author's mistake")


def cycle() -> dict[str, Any]:
    value: dict[str, Any] = {"set": {1}}
    value["self"] = value
    return value


def nested(depth: int) -> Any:
    value: Any = {1}
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), "type object that JSON cannot hold"),
        ([Rude()], "no type that pydantic can serialize"),
        (b"bytes", "5 bytes of binary data"),
        (memoryview(b"bytes"), "5 bytes of binary data"),
        ({"image": b"\x89PNG"}, "JSON cannot hold"),
        ({"data": [b"text"]}, "4 bytes of binary data"),
        ((number for number in range(3)), "read only once"),
        (print, "JSON cannot hold"),
        (Item, "JSON cannot hold"),
        (Broken(), "the author's mistake"),
        ({frozenset([1]): 2}, "JSON cannot hold"),
        ({1: object()}, "object"),
        (10**5000, "JSON cannot hold"),
        (cycle(), "JSON cannot hold|contains itself"),
        (nested(100), "nested more than 64"),
        (nested(10_000), "JSON cannot hold|nested more than 64"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_nobody_can_show_says_what_it_is(value: Any, message: str) -> None:
    with pytest.raises(NoResult, match=message) as raised:
        as_text(value)
    assert str(raised.value).startswith("it returned ")
    assert len(str(raised.value)) < 1000


def test_the_order_of_a_set_does_not_depend_on_the_process() -> None:
    code = "from steptool_env.tools.serialization import as_text; print(as_text({'a': {'x', 'y', 'z', 'w'}}))"
    found = {subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True).stdout for seed in "12"}
    assert found == {'{"a": ["w", "x", "y", "z"]}\n'}


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.dates()
    | st.datetimes()
    | st.decimals()
    | st.uuids()
    | st.fractions()
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner), max_leaves=8)


@given(VALUES | st.sets(st.text() | st.integers()))
def test_any_value_is_text_or_refused(value: Any) -> None:
    try:
        text = as_text(value)
    except NoResult:
        return
    if not isinstance(value, str):
        json.loads(text)
