"""Fifty ways of writing a typed function: which of them become tools, here and elsewhere.

    pip install '.[test]' pandas pydantic-ai-slim langchain-core smolagents transformers jinja2
    python benchmarks/function_variants.py      # prints the table of docs/tools.md

Every function is handed to each library as its documentation says, and called as a model's call would be, with JSON arguments. The
cell says what a model would have met: ``yes``; ``untold``, if a description or a bound does not reach the schema that it reads;
``repr``, if it reads Python's representation instead of JSON; ``fails``, if a valid call raises or does something else than the
function; ``refused``, if the library raises while the tool is made. Without a library, its column is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import io
import json
import logging
import warnings
from collections.abc import Callable
from functools import partial
from importlib import metadata
from typing import Any

from function_variants_list import VARIANTS, Variant

Play = Callable[[Variant], tuple[str, Any]]
"""Makes a tool; returns its schema as text, and a function that calls it and returns what the model reads."""


def steptool(variant: Variant) -> tuple[str, Any]:
    """Ours; an error observation counts as a failed call."""
    from steptool_env import ToolCall, Toolkit, tool

    made = tool(variant.function)
    toolkit = Toolkit([made])

    def call() -> str:
        result = toolkit.execute(ToolCall(made.name, variant.arguments))
        if result.error:
            raise RuntimeError(result.content)
        return result.content

    return made.schema_json, call


def pydantic_ai(variant: Variant) -> tuple[str, Any]:
    """Its ``Tool``, and the text that a model gets of what it returned."""
    from pydantic_ai import Tool
    from pydantic_ai.messages import ToolReturnPart

    try:
        made = Tool(variant.function, takes_ctx=False)
    except Exception:  # it may have no name of its own
        made = Tool(variant.function, takes_ctx=False, name="f")
    schema = made.function_schema

    def call() -> str:
        arguments = schema.validator.validate_json(json.dumps(variant.arguments))
        value = asyncio.run(schema.call(arguments, None))  # type: ignore[arg-type]
        return str(ToolReturnPart(made.name, value, "id").model_response_str())

    return json.dumps([schema.json_schema, made.description]), call


def langchain(variant: Variant) -> tuple[str, Any]:
    """Its decorator, with docstrings read if it can, and the content of the message that it answers."""
    from langchain_core.tools import StructuredTool, tool
    from langchain_core.utils.function_calling import convert_to_openai_tool

    made: Any = None
    for make in (tool(parse_docstring=True), tool, partial(StructuredTool.from_function, name="f")):
        with contextlib.suppress(Exception):
            made = made or make(variant.function)  # type: ignore[operator]
    call = {"name": made.name, "args": variant.arguments, "id": "x", "type": "tool_call"}
    return json.dumps(convert_to_openai_tool(made)), lambda: asyncio.run(made.ainvoke(call)).content


def smolagents(variant: Variant) -> tuple[str, Any]:
    """Its decorator; a model reads ``str`` of the result."""
    from smolagents import tool

    made = tool(variant.function)
    return json.dumps([made.description, made.inputs]), lambda: str(_done(made(**variant.arguments)))


def transformers(variant: Variant) -> tuple[str, Any]:
    """Its ``get_json_schema``, which chat templates call; it makes no call, so the function gets JSON, and a model reads ``str`` of the result."""
    from transformers.utils import get_json_schema

    return json.dumps(get_json_schema(variant.function)), lambda: str(_done(variant.function(**variant.arguments)))


def _done(value: Any) -> Any:
    if asyncio.iscoroutine(value):
        value.close()
        raise TypeError("a coroutine that nobody awaits")
    return value


LIBRARIES: dict[str, tuple[str, Play]] = {
    "StepTool": ("steptool_env", steptool),
    "pydantic-ai": ("pydantic_ai", pydantic_ai),
    "LangChain": ("langchain_core", langchain),
    "smolagents": ("smolagents", smolagents),
    "transformers": ("transformers", transformers),
}
DISTRIBUTIONS = {"pydantic-ai": "pydantic-ai-slim", "LangChain": "langchain-core"}


def verdict(play: Play, variant: Variant) -> str:
    """Return the cell of one function and one library."""
    try:
        schema, call = play(variant)
    except Exception:
        return "refused"
    try:
        text = call()
    except Exception:
        return "fails"
    if not _is(text, variant.result):
        # Python's own words for the right value, or for anything that has no JSON.
        return "fails" if isinstance(variant.result, str | int) else "repr"
    return "untold" if any(told not in schema and json.dumps(told)[1:-1] not in schema for told in variant.told) else "yes"


def _is(text: str, expected: Any) -> bool:
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if isinstance(expected, list) and isinstance(value, list) and value and all(isinstance(item, str) for item in value) and "a" in value:
        value = sorted(value)  # a set in whatever order
    return bool(value == expected) or text == expected


def table(libraries: dict[str, Play]) -> list[str]:
    """Return the lines of the table."""
    lines = ["| " + " | ".join(["function", *libraries]) + " |", "|---" * (1 + len(libraries)) + "|"]
    for variant in VARIANTS:
        title = variant.title.replace("|", "\\|")
        lines.append("| " + " | ".join([title, *(verdict(play, variant) for play in libraries.values())]) + " |")
    return lines


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    found: dict[str, Play] = {}
    versions = []
    for name, (module, play) in LIBRARIES.items():
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
            found[name] = play
            if name != "StepTool":
                distribution = DISTRIBUTIONS.get(name, name)
                versions.append(f"{distribution} {metadata.version(distribution)}")
    with contextlib.redirect_stderr(io.StringIO()):
        lines = table(found)
    print("\n".join(lines))
    print(f"\n{len(VARIANTS)} functions; {', '.join(versions)}. Made by `python benchmarks/function_variants.py`.")


if __name__ == "__main__":
    main()
