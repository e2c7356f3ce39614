"""What a typed function may look like, and what is refused."""

from __future__ import annotations

import asyncio
import datetime
import functools
import pickle
import re
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import pytest
from project import BENCHMARKS, ROOT
from pydantic import AfterValidator, BaseModel, Field

from steptool_env import ToolCall, Toolkit, ToolResult, tool
from steptool_env.errors import InvalidArgument


def call(function: Any, name: str = "f", /, **arguments: Any) -> ToolResult:
    return Toolkit([tool(function, name=name)]).execute(ToolCall(name, arguments))


def described(function: Any) -> tuple[str, dict[str, Any]]:
    """Return the description, and what the schema says of each parameter."""
    made = tool(function)
    return made.description, {name: item.get("description") for name, item in made.parameters["properties"].items()}


# ---------------------------------------------------------------- the table of the documentation
@pytest.fixture
def variants(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    pytest.importorskip("pandas", reason="pandas is not installed: pip install pandas")
    import function_variants

    yield function_variants
    for name in ("function_variants", "function_variants_list"):
        sys.modules.pop(name)


def test_the_table_of_function_variants_is_true_of_this_library(variants: Any) -> None:
    page = (ROOT / "docs" / "tools.md").read_text(encoding="utf-8")
    start = page.index("| function | StepTool |")
    told = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:3]] for line in page[start:].split("\n\n")[0].splitlines()[2:]]
    assert len(told) == 50
    assert told == [[variant.title.replace("|", "\\|"), variants.verdict(variants.steptool, variant)] for variant in variants.VARIANTS]


def test_the_verdicts_of_the_table_can_be_bad(variants: Any) -> None:
    def play(schema: str, text: str) -> Any:
        return lambda variant: (schema, lambda: text)

    one = variants.Variant("", None, {}, {"a": 1}, ("told",))
    assert variants.verdict(play("told", '{"a": 1}'), one) == "yes"
    assert variants.verdict(play("", '{"a": 1}'), one) == "untold"
    assert variants.verdict(play("told", "a=1"), one) == "repr"
    assert variants.verdict(play("told", "2"), one._replace(result=1)) == "fails"
    assert variants.verdict(lambda variant: ("", None), one) == "fails"
    assert variants.verdict(lambda variant: 1 / 0, one) == "refused"


# ---------------------------------------------------------------- Field
def test_fields_mean_what_they_mean_in_pydantic() -> None:
    def f(
        city: Annotated[str, Field(description="Where.", min_length=2)],
        nights: int = Field(default=2, description="How long.", ge=1),
        names: list[str] = Field(default_factory=lambda: ["Ann"]),  # noqa: B008
        to: Annotated[str, Field(alias="from")] = "x",
    ) -> str:
        """Book.

        Args:
            city: Not this one.
            names: Who.
        """
        return f"{city} {nights} {names} {to}"

    made = tool(f)
    properties = made.parameters["properties"]
    assert properties["city"] == {"type": "string", "description": "Where.", "minLength": 2}
    assert properties["nights"] == {"type": "integer", "description": "How long.", "default": 2, "minimum": 1}
    assert properties["names"]["description"] == "Who."
    assert list(properties) == ["city", "nights", "names", "from"]
    assert made.parameters["required"] == ["city"]


def test_defaults_of_fields_reach_the_function() -> None:
    def f(
        a: int = Field(default=2),
        b: list[str] = Field(default_factory=lambda: ["Ann"]),  # noqa: B008
        c: Annotated[int, Field(description="C.")] = 3,
    ) -> str:
        return f"{a} {b} {c}"

    def g(a: Annotated[int, Field(default=5)]) -> int:
        return a

    def h(a: Annotated[int, AfterValidator(lambda value: value * 10)]) -> int:
        return a

    assert call(f).content == "2 ['Ann'] 3"
    assert call(f, a=7, b=[], c=1).content == "7 [] 1"
    assert call(g).content == "5"
    assert tool(g).parameters.get("required", []) == []
    assert call(h, a=2).content == "20"


def test_an_alias_is_what_the_model_writes() -> None:
    def f(origin: Annotated[str, Field(alias="from")]) -> str:
        return origin

    assert list(tool(f).parameters["properties"]) == ["from"]
    assert call(f, **{"from": "Rome"}).content == "Rome"
    assert call(f, origin="Rome").error == "bad_arguments"


# ---------------------------------------------------------------- docstrings
def numpy_style(a: int, b: str = "") -> None:
    """Do it: well.

    At length.

    Parameters
    ----------
    a : int
        The first,
        in full.
    b : str, optional
        The second.

    Returns
    -------
    None
    """


def sphinx_style(a: int, b: str = "") -> None:
    """Do it: well.

    At length.

    :param a: The first,
        in full.
    :param str b: The second.
    :raises ValueError: Never.
    """


def google_style(a: int, b: str = "") -> None:
    """Do it: well.

    At length.

    Args:
        a (int): The first,
            in full.

        b: The second.

    Raises:
        ValueError: Never.
    """


def epydoc_style(a: int, b: str = "") -> None:
    """Do it: well.

    At length.

    @param a: The first,
        in full.
    @param b: The second.
    """


@pytest.mark.parametrize("function", [numpy_style, sphinx_style, google_style, epydoc_style])
def test_docstrings_of_every_style(function: Callable[..., Any]) -> None:
    assert described(function) == ("Do it: well. At length.", {"a": "The first, in full.", "b": "The second."})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("Ping a\n:port: of it.", "Ping a :port: of it."),
        ("Args:\n    nothing\n", "Args: nothing"),
        ("Do: it.\n\n    - a\n    - b\n", "Do: it. - a - b"),
    ],
)
def test_a_docstring_of_no_style_is_taken_whole(text: str, expected: str) -> None:
    def f() -> None: ...

    f.__doc__ = text
    assert tool(f).description == expected


# ---------------------------------------------------------------- what can be called
class Scale:
    """Multiplies.

    Args:
        number: The number.
    """

    def __init__(self, by: int = 3) -> None:
        self.by = by

    def __call__(self, number: int) -> int:
        return self.by * number

    async def later(self, number: int) -> int:
        """Multiply, later."""
        await asyncio.sleep(0)
        return self.by * number


class Later:
    async def __call__(self, number: int) -> int:
        """Count, later."""
        await asyncio.sleep(0)
        return number + 1


def convert(length: float, unit: str = "mm", *, key: str = "") -> str:
    """Convert a length.

    Args:
        length: The length.
        unit: Its unit.
        key: A secret.
    """
    return f"{length} {unit} {key}"


def test_a_callable_object_is_called_and_named_after_its_class() -> None:
    made = tool(Scale(), timeout=None)
    assert (made.name, made.description) == ("Scale", "Multiplies.")
    assert made.parameters["properties"] == {"number": {"type": "integer", "description": "The number."}}
    assert Toolkit([made]).execute(ToolCall("Scale", {"number": 2})).content == "6"
    assert tool(Later()).description == "Count, later."


def test_what_a_partial_has_bound_is_not_offered() -> None:
    bound = partial(partial(convert, key="sesame"), 2.0)
    made = tool(bound)
    assert made.name == "convert"
    assert list(made.parameters["properties"]) == ["unit"]
    assert "sesame" not in made.schema_json
    assert call(bound, unit="inch").content == "2.0 inch sesame"
    assert call(bound, key="other").error == "bad_arguments"


@pytest.mark.parametrize(
    "function", [partial(convert, key="sesame"), Scale(4), Scale(4).later, Later(), numpy_style], ids=["partial", "object", "method", "async", "function"]
)
def test_the_function_of_a_tool_can_be_pickled(function: Any) -> None:
    made = tool(function)
    again = replace(made, function=pickle.loads(pickle.dumps(made.function)))
    arguments = {name: 2 for name, item in made.parameters["properties"].items() if item["type"] != "string"}
    assert Toolkit([again]).execute(ToolCall(made.name, arguments)) == Toolkit([made]).execute(ToolCall(made.name, arguments))
    assert Toolkit([again]).execute(ToolCall(made.name, arguments)).error == ""


def test_a_state_and_parameters_by_position() -> None:
    @tool(timeout=None)
    def f(state: list[int], at: int, more: int = 1, /, *, last: int = 0) -> int:
        return state[at] + more + last

    assert f.stateful
    assert list(f.parameters["properties"]) == ["at", "more", "last"]
    assert [Toolkit([f], [10, 20]).execute(ToolCall("f", arguments)).content for arguments in ({"at": 1}, {"at": 0, "more": 5, "last": 7})] == ["21", "22"]


def test_methods_classes_and_what_is_behind_decorators() -> None:
    @functools.cache
    def double(x: int) -> int:
        return 2 * x

    class Row(BaseModel):
        day: datetime.date

    assert call(double, x=2).content == "4"
    assert call(Row, day="2024-02-29").content == '{"day": "2024-02-29"}'


# ---------------------------------------------------------------- async
def test_async_functions_run_wherever_they_are_called_from() -> None:
    @functools.wraps(Later.__call__)
    def passed_on(*positional: Any, **named: Any) -> Any:
        return Later.__call__(Later(), **named)

    async def inside() -> ToolResult:
        return call(Scale().later, number=4)  # blocks this loop, as any tool does, and needs another one

    assert call(Scale().later, number=2).content == "6"
    assert asyncio.run(inside()).content == "12"
    assert call(Later(), number=2).content == "3"
    assert call(partial(Scale.later, Scale(5)), number=2).content == "10"
    assert call(partial(passed_on, None), number=2).content == "3"


# ---------------------------------------------------------------- what is refused
def no_hint(x):  # type: ignore[no-untyped-def]
    return x


def star(*x: int) -> None: ...
def keywords(**x: int) -> None: ...
def unknown_hint(x: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def broken_hint(x: "1 +") -> None: ...  # type: ignore[valid-type]  # noqa: F722
def no_schema(x: threading.Thread) -> None: ...
def a_callable(x: Callable[[], int]) -> None: ...
def bad_pattern(x: Annotated[str, Field(pattern="(")]) -> None: ...
def twice(x: Annotated[int, Field(alias="y")], y: int) -> None: ...
def größe(x: int) -> None: ...
def generator(x: int) -> Iterator[int]:
    yield x


async def async_generator(x: int) -> AsyncIterator[int]:
    yield x


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (no_hint, "parameter 'x' has no type hint"),
        (star, "parameter 'x' cannot be passed by name"),
        (keywords, "parameter 'x' cannot be passed by name"),
        (unknown_hint, "type hints cannot be read"),
        (broken_hint, "type hints cannot be read"),
        (no_schema, "no JSON schema"),
        (a_callable, "no JSON schema"),
        (bad_pattern, "no JSON schema"),
        (twice, "two parameters are called 'y'"),
        (generator, "return a list"),
        (async_generator, "return a list"),
        (lambda: 1, "<lambda>"),
        (größe, "größe"),
        (max, "cannot be read|has no type hint"),
        (7, "from a function, got 7"),
        ("look", "from a function, got 'look'"),
    ],
)
def test_bad_functions_are_refused(function: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        tool(function)


@pytest.mark.parametrize("name", ["", " ", "a b", "ns.look", "größe", "x" * 65, "a\n", 7])
def test_names_that_no_server_takes_are_refused(name: Any) -> None:
    with pytest.raises(InvalidArgument, match="1 to 64 of the characters"):
        tool(convert, name=name)
    with pytest.raises(InvalidArgument, match="1 to 64 of the characters"):
        tool(name=name)(convert)
    assert tool(name="x" * 64)(convert).name == "x" * 64
