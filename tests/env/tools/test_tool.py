from __future__ import annotations

import datetime
import enum
import http.server
import threading
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Optional, Union

import pytest
from names import shown
from pydantic import BaseModel, Field

from steptool_env import Tool, ToolCall, Toolkit, tool
from steptool_env.errors import InvalidArgument


async def later(x: int) -> None: ...


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    street: str
    zip: int = 0


@dataclass
class Point:
    x: float
    y: float = 0.0


def parameter(hint: Any) -> dict[str, Any]:
    """Return the schema of a parameter with this hint."""

    def f(x: Any) -> None: ...

    f.__annotations__ = {"x": hint}
    schema = tool(f).parameters
    found: dict[str, Any] = schema["properties"]["x"]
    return found


# ---------------------------------------------------------------- schemas
@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (Any, {}),
        (list, {"type": "array", "items": {}}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (dict, {"type": "object", "additionalProperties": True}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}),  # noqa: UP045
        (Union[int, str], {"anyOf": [{"type": "integer"}, {"type": "string"}]}),  # noqa: UP007
        (str | None, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        (Annotated[int, Field(ge=1)], {"type": "integer", "minimum": 1}),
        (datetime.date, {"type": "string", "format": "date"}),
        (Color, {"$ref": "#/$defs/Color"}),
        (Address, {"$ref": "#/$defs/Address"}),
        (Point, {"$ref": "#/$defs/Point"}),
    ],
    ids=shown,
)
def test_hints_become_schemas(hint: Any, expected: dict[str, Any]) -> None:
    assert parameter(hint) == expected


def test_a_function_becomes_a_tool() -> None:
    @tool
    def book(city: str, nights: int = 1, title: str = "Dr") -> str:
        """Book a hotel in a city
        for some nights.

        Args:
            city: Where.
                In full.
            nights (int): How long: in nights.

        Returns:
            The confirmation.
        """
        return f"{title} {city} {nights}"

    assert isinstance(book, Tool)
    assert book.name == "book"
    assert book.description == "Book a hotel in a city for some nights."
    assert book.timeout == 30.0
    assert not book.stateful
    assert book.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Where. In full."},
            "nights": {"type": "integer", "description": "How long: in nights.", "default": 1},
            "title": {"type": "string", "default": "Dr"},
        },
        "required": ["city"],
        "additionalProperties": False,
    }
    assert book.schema == {"type": "function", "function": {"name": "book", "description": book.description, "parameters": book.parameters}}
    assert book.function(city="Rome") == "Dr Rome 1"


def test_name_timeout_and_state() -> None:
    @tool(name="ns_look-2", timeout=None)
    def look(state: list[int], at: int) -> int:
        return state[at]

    assert (look.name, look.timeout, look.stateful, look.description) == ("ns_look-2", None, True, "")
    assert list(look.parameters["properties"]) == ["at"]


def test_a_docstring_of_arguments_only() -> None:
    def f(x: int) -> None:
        """
        Args:
            x: The x.
        """

    assert tool(f).description == ""
    assert tool(f).parameters["properties"]["x"]["description"] == "The x."


@pytest.mark.parametrize("name", ["schema", "copy", "json", "model_config", "model_name", "_private", "self", "title", "description"])
def test_a_parameter_may_have_any_name(name: str) -> None:
    scope: dict[str, Any] = {}
    exec(f"def f({name}: int, other: int = 2) -> int: return {name} + other", scope)
    one = tool(scope["f"])
    assert list(one.parameters["properties"]) == [name, "other"]
    assert Toolkit([one]).execute(ToolCall("f", {name: 40})).content == "42"


# ---------------------------------------------------------------- values
def test_json_becomes_what_the_hints_say() -> None:
    got: list[Any] = []

    def f(day: datetime.date, color: Color, home: Address, at: Point, also: Optional[Color] = None, count: int = 3) -> None:  # noqa: UP045
        got.extend([day, color, home, at, also, count])

    arguments = {"day": "2024-02-29", "color": "red", "home": {"street": "Elm", "zip": 7}, "at": {"x": 1}}
    assert Toolkit([f]).execute(ToolCall("f", arguments)).error == ""
    assert got == [datetime.date(2024, 2, 29), Color.RED, Address(street="Elm", zip=7), Point(1.0, 0.0), None, 3]
    assert arguments["home"] == {"street": "Elm", "zip": 7}


def test_numbers_have_the_type_of_their_hint() -> None:
    # For JSON schema 3.0 is an integer and 3 a number.
    def f(whole: int, real: float, several: list[int]) -> str:
        return repr((whole, real, several))

    assert Toolkit([f]).execute(ToolCall("f", {"whole": 3.0, "real": 3, "several": [2.0]})).content == "(3, 3.0, [2])"


def test_values_that_fit_the_schema_but_not_the_type_are_bad_arguments() -> None:
    def f(day: datetime.date) -> str:
        return str(day)

    result = Toolkit([f]).execute(ToolCall("f", {"day": "2024-02-31"}))
    assert result.error == "bad_arguments"
    assert "day: " in result.content
    assert result.content.endswith("It takes: day.")


# ---------------------------------------------------------------- check
@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"a": 1}, ""),
        ({"a": 1, "b": "x"}, ""),
        ({}, '"a" is a required property'),
        ({"a": "1"}, 'a: "1" is not of type "integer"'),
        ({"a": True}, 'a: true is not of type "integer"'),
        ({"a": 1, "c": 2}, "Additional properties are not allowed ('c' was unexpected)"),
        ({"a": "x", "b": 1}, 'a: "x" is not of type "integer"; b: 1 is not of type "string"'),
        ({"a": object()}, "the arguments are not JSON: Unsupported type: 'object'"),
        ({1: 2}, "the arguments are not JSON: "),
        (7, "the arguments are not JSON: "),
    ],
    ids=shown,
)
def test_check(arguments: Any, fault: str) -> None:
    @tool
    def f(a: int, b: str = "") -> None: ...

    found = f.check(arguments)
    assert found == fault if not fault.endswith(": ") else found.startswith(fault)


def test_check_names_the_path_and_keeps_it_short() -> None:
    @tool
    def f(points: list[Point]) -> None: ...

    assert f.check({"points": [{"x": 1}, {"x": "y" * 100_000}]}).startswith('points.1.x: "yyy')
    assert len(f.check({"points": ["y" * 100_000] * 50})) < 1500


# ---------------------------------------------------------------- what is no tool
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "needs a name"),
        ({"name": 7}, "needs a name"),
        ({"parameters": {"type": "string"}}, "of type 'object'"),
        ({"parameters": []}, "of type 'object'"),
        ({"parameters": {"type": "object", "properties": {"x": {"type": "strng"}}}}, "valid JSON schema.*strng"),
        ({"parameters": {"type": "object", "properties": {"x": {"$ref": "#/$defs/Gone"}}}}, "valid JSON schema.*Gone"),
        ({"parameters": {"type": "object", "x": object()}}, "valid JSON schema"),
        ({"timeout": 0}, "timeout must be seconds above 0"),
        ({"timeout": "5"}, "timeout must be seconds above 0"),
        ({"function": later}, "nobody would await"),
        ({"timeout": float("nan")}, "timeout must be seconds above 0"),
    ],
)
def test_bad_tools_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Tool(**{"name": "f", "description": "", "parameters": {"type": "object"}, "function": print, **changes})


def test_a_foreign_schema_fetches_nothing() -> None:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *args: Any) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            reference = {"$ref": f"http://127.0.0.1:{server.server_port}/schema.json"}
            with pytest.raises(InvalidArgument, match="are not fetched"):
                Tool("f", "", {"type": "object", "properties": {"x": reference}}, print)
        finally:
            server.shutdown()
    assert asked == []
    with pytest.raises(InvalidArgument, match="are not fetched"):
        Tool("f", "", {"type": "object", "properties": {"x": {"$ref": "file:///etc/hostname"}}}, print)
