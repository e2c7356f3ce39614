"""Reads a typed Python function: its parameters as a JSON schema, its docstring, and how it is called with JSON arguments."""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import docstring_parser
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic import Field as PydanticField
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUserError
from pydantic.fields import FieldInfo

from steptool_env.errors import InvalidArgument
from steptool_env.tools.awaiting import Awaited

__all__ = ["LEGAL_NAME", "BadArguments", "Signature", "read_function"]

LEGAL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""What the servers of language models take as the name of a function (``fullmatch``)."""
_AS_IS = (str, bool, list, dict, type(None), Any)
"""Hints whose JSON values need no conversion. Not the numbers: JSON schema takes 3.0 for an integer and 3 for a number."""


class BadArguments(ValueError):
    """Raised by a tool whose arguments fit its schema, but that it cannot take, such as the date 2024-02-31."""


@dataclass(frozen=True)
class Signature:
    """What a tool needs to know of a function."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """A JSON schema of type ``object``."""
    call: Callable[..., Any]
    """Takes JSON arguments by name, behind the state if it is ``stateful``, and returns the result."""
    stateful: bool
    waits: bool
    """Whether it is an async function."""


def read_function(function: Callable[..., Any], name: str | None = None, timeout: float | None = None) -> Signature:
    """Read a function, a method, a class, a callable object, or a ``functools.partial`` of one.

    Args:
        function: What is called. A first parameter named ``state`` belongs to the toolkit; what a partial has bound is not offered.
        name: The tool's name; the function's own by default, of an object that of its class.
        timeout: Seconds after which an async function is canceled.

    Raises:
        InvalidArgument: No tool can be made of it; the message says why.
    """
    inner = _unbound(function)
    if not callable(inner):
        raise InvalidArgument(f"a tool is made from a function, got {function!r:.200}; its name is given as @tool(name=...)")
    own_name = getattr(inner, "__name__", None)
    title = own_name or type(inner).__name__
    code = inner.__init__ if isinstance(inner, type) else inner if own_name else inner.__call__  # type: ignore[misc]
    name = title if name is None else name
    if not isinstance(name, str) or not LEGAL_NAME.fullmatch(name):
        raise InvalidArgument(
            f"a tool's name is 1 to 64 of the characters a-z, A-Z, 0-9, _ and -, got {name!r:.200} for {title!r}; give another one: @tool(name=...)"
        )
    if inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code):
        raise InvalidArgument(f"tool {title!r} yields its results one by one; a call has one result: return a list")
    description, about = _texts(inner, code)
    model, takes, stateful, plain = _model(title, function, code, about)
    try:
        parameters = _without_titles(model.model_json_schema())
    except (PydanticUserError, PydanticInvalidForJsonSchema, PydanticSchemaGenerationError) as fault:
        raise InvalidArgument(f"tool {title!r}: no JSON schema for its hints: {str(fault).partition(chr(10))[0]}") from fault
    waits = inspect.iscoroutinefunction(inspect.unwrap(code))  # a decorator may pass a coroutine on
    call = Awaited(function, timeout) if waits else function
    return Signature(name, description, parameters, call if plain else _Converting(call, model, takes, (function, name, timeout)), stateful, waits)


def _unbound(function: Any) -> Any:
    return _unbound(function.func) if isinstance(function, functools.partial) else function


def _bound(function: Any) -> set[str]:
    return {*function.keywords, *_bound(function.func)} if isinstance(function, functools.partial) else set()


# ---------------------------------------------------------------- parameters
class _Takes(NamedTuple):
    """How one field of the model is passed on."""

    field: str
    name: str
    """Of the parameter."""
    by_position: bool
    always: bool
    """Also if the model did not give it: it has no default, or one in a ``Field``, which the function does not know."""


def _model(title: str, function: Callable[..., Any], code: Any, about: Mapping[str, str]) -> tuple[type[BaseModel], list[_Takes], bool, bool]:
    """Return a model of the parameters, how its fields are passed on, whether there is a state, and whether values need no conversion."""
    # A class made by a decorator or a metaclass has a signature, and its hints where the attributes stand.
    sources = [inner, code] if isinstance(inner := _unbound(function), type) else [code]
    try:
        hints = {name: hint for one in sources for name, hint in typing.get_type_hints(one, include_extras=True).items()}
    except Exception as fault:  # a hint that is a text may be any code
        raise InvalidArgument(f"tool {title!r}: its type hints cannot be read: {fault}") from fault
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as fault:
        raise InvalidArgument(f"tool {title!r}: its parameters cannot be read: {fault}") from fault
    stateful = bool(parameters) and parameters[0].name == "state"
    bound = _bound(function)
    fields: dict[str, Any] = {}
    takes: list[_Takes] = []
    plain = True
    for position, parameter in enumerate(parameters[stateful:]):
        if parameter.name in bound:
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise InvalidArgument(f"tool {title!r}: parameter {parameter.name!r} cannot be passed by name; tools take named arguments only")
        if parameter.name not in hints:
            raise InvalidArgument(f"tool {title!r}: parameter {parameter.name!r} has no type hint; the schema is made from the hints")
        hint, default = hints[parameter.name], parameter.default
        in_field = isinstance(default, FieldInfo)
        by_position = parameter.kind is parameter.POSITIONAL_ONLY
        takes.append(_Takes(field := f"p{position}", parameter.name, by_position, in_field or default is parameter.empty))
        plain &= any(hint is json_type for json_type in _AS_IS) and not in_field and not by_position
        fields[field] = _field(parameter.name, hint, ... if default is parameter.empty else default, about.get(parameter.name))
    try:
        model = create_model(title, __config__=ConfigDict(extra="forbid"), **fields)
    except Exception as fault:  # pydantic's errors, and those of what the author put into the hints
        raise InvalidArgument(f"tool {title!r}: no JSON schema for its hints: {str(fault).partition(chr(10))[0]}") from fault
    names = [str(field.alias) for field in model.model_fields.values()]
    if doubles := {name for name in names if names.count(name) > 1}:
        raise InvalidArgument(f"tool {title!r}: two parameters are called {doubles.pop()!r}; give one of them another alias")
    return model, takes, stateful, plain


def _field(name: str, hint: Any, default: Any, about: str | None) -> Any:
    """Return the definition of a field, in which what the author wrote in a ``Field`` comes before the docstring."""
    extras = list(getattr(hint, "__metadata__", ()))
    if about is None:  # the plainest ways: Annotated[str, "The city."] and Annotated[str, Doc("The city.")]
        about = next((text for extra in extras if isinstance(text := getattr(extra, "documentation", extra), str)), None)
    # Under an alias, a parameter may have any name, also one that pydantic keeps for itself, such as "schema".
    ours = PydanticField(alias=name) if about is None else PydanticField(alias=name, description=about)
    bare = typing.get_args(hint)[0] if extras else hint
    annotated = Annotated[(bare, ours, *extras)]  # type: ignore[valid-type]
    in_annotation = any(isinstance(extra, FieldInfo) and not extra.is_required() for extra in extras)
    return annotated if default is ... and in_annotation else (annotated, default)


class _Converting:
    """Turns JSON into what the hints ask for (dates, enums, models) before the call."""

    def __init__(
        self, call: Callable[..., Any], model: type[BaseModel], takes: Sequence[_Takes], made_of: tuple[Callable[..., Any], str, float | None]
    ) -> None:
        self.call, self.model, self.made_of = call, model, made_of
        self.function = made_of[0]
        self.positional = [take.field for take in takes if take.by_position]
        self.named = [(take.field, take.name, take.always) for take in takes if not take.by_position]

    def __reduce__(self) -> tuple[Any, ...]:
        return _call_of, self.made_of  # the model has no name under which it could be found

    def __call__(self, /, *state: Any, **arguments: Any) -> Any:
        try:
            values = self.model.model_validate(arguments)
        except ValidationError as fault:
            raise BadArguments("; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in fault.errors()[:3])) from fault
        of, given = vars(values), values.model_fields_set
        named = {name: of[field] for field, name, always in self.named if always or field in given}
        return self.call(*state, *(of[field] for field in self.positional), **named)


def _call_of(function: Callable[..., Any], name: str, timeout: float | None) -> Callable[..., Any]:
    return read_function(function, name, timeout).call


# ---------------------------------------------------------------- texts
def _texts(function: Any, code: Any) -> tuple[str, dict[str, str]]:
    """Return what a function does, and what its arguments are; of an object or a class, two docstrings may tell."""
    docs = [inspect.getdoc(function)] if hasattr(function, "__name__") else []
    if code is not function and inspect.isroutine(code) and code.__doc__ and code.__doc__ not in (object.__init__.__doc__, type.__call__.__doc__):
        docs.append(inspect.cleandoc(code.__doc__))
    if not hasattr(function, "__name__"):
        docs.append(inspect.getdoc(type(function)))
    read = [_docstring(doc) for doc in docs if doc]
    about = {name: text for _, texts in reversed(read) for name, text in texts.items()}
    return next((description for description, _ in read if description), ""), about


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """Split a docstring, in the style of Google, NumPy, Sphinx or Epydoc, into its description and what it says of each argument."""
    try:
        parsed = docstring_parser.parse("\n" + text)  # without the line break, the second line would lose its indentation
    except docstring_parser.ParseError:
        return " ".join(text.split()), {}
    if not (parsed.params or parsed.returns or parsed.raises or parsed.style is not docstring_parser.DocstringStyle.REST):
        return " ".join(text.split()), {}  # no style: a line that begins with a colon is a part of the text
    about = {param.arg_name: " ".join(param.description.split()) for param in parsed.params if param.description}
    return " ".join((parsed.description or "").split()), about


def _without_titles(schema: Any) -> Any:
    # pydantic adds a "title" to every node; models read them as noise. A property may itself be called "title".
    if isinstance(schema, dict):
        return {
            key: {name: _without_titles(value) for name, value in item.items()} if key in ("properties", "$defs") else _without_titles(item)
            for key, item in schema.items()
            if not (key == "title" and isinstance(item, str))
        }
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    return schema
