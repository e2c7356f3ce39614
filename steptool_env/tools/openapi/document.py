"""``Document``: an OpenAPI document with the files beside it, read as JSON or YAML 1.2, and where its references lead.

References are followed within the document and to files in its folder, never to the network and never out of the folder.
Anchors (``#name``) and dynamic references are not followed.
"""

from __future__ import annotations

import functools
import json
import re
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from steptool_env.errors import DataError, InvalidArgument, MissingExtra

__all__ = ["Document", "Unusable", "read_document"]

_HOPS = 32
"""Most references in a row that refer to nothing but the next one."""


class Unusable(Exception):
    """An operation cannot be offered the way it is written; the text says why."""


def read_document(path: str | Path) -> dict[str, Any]:
    """Read a document in JSON or YAML.

    YAML is read as its version 1.2 has it, which is what OpenAPI asks for: ``on`` and ``no`` are texts, and so are dates.

    Raises:
        DataError: It is neither.
        MissingExtra: It is YAML, and PyYAML is not installed.
    """
    document = _read(Path(path))
    if not isinstance(document, dict):
        raise DataError(path, 1, f"expected an object, got {type(document).__name__}")
    return document


def _read(path: Path) -> Any:
    text = path.read_text(encoding="utf-8-sig")
    try:
        return json.loads(text) if text.lstrip().startswith(("{", "[")) else _read_yaml(text)
    except ImportError as fault:
        raise MissingExtra(f"{str(path)!r}, which is YAML,", "pyyaml", "pip install 'steptool-env[http]'") from fault
    except Exception as fault:
        mark = getattr(fault, "problem_mark", None)  # of YAML's faults
        line = getattr(fault, "lineno", 1) if mark is None else mark.line + 1
        raise DataError(path, line, f"neither JSON nor YAML: {str(fault).splitlines()[0]}") from fault


def _read_yaml(text: str) -> Any:
    import yaml

    return yaml.load(text, Loader=_yaml_loader())


@functools.cache
def _yaml_loader() -> Any:
    """Return PyYAML's safe loader with the scalars of YAML 1.2's core schema, and with keys that are texts."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc]
        yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            if isinstance(node, yaml.MappingNode):
                self.flatten_mapping(node)
                for key, _ in node.value:
                    if isinstance(key, yaml.ScalarNode):
                        key.tag = "tag:yaml.org,2002:str"
            return super().construct_mapping(node, deep)

    for kind, pattern, first in [
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("int", r"[-+]?[0-9]+", "-+0123456789"),
        ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
        ("null", r"~|null|Null|NULL|", "~nN\0"),
        ("merge", r"<<", "<"),
    ]:
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(rf"^(?:{pattern})$"), ["" if one == "\0" else one for one in first])
    Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))  # not octal where it begins with 0
    return Loader


class Document:
    """A document and what its references lead to.

    Args:
        source: The document, or the path of its file. Files that it refers to are found with a path only.

    Raises:
        InvalidArgument: It is not OpenAPI 3.
        DataError: The file is neither JSON nor YAML.
    """

    def __init__(self, source: Mapping[str, Any] | str | Path) -> None:
        path = None if isinstance(source, Mapping) else Path(source)
        self.root: Mapping[str, Any] = source if isinstance(source, Mapping) else read_document(source)
        self._folder = None if path is None else path.resolve().parent
        self._own = None if path is None else path.resolve()
        self._files: dict[str, Any] = {"": self.root}
        version = str(self.root.get("openapi", ""))
        if "swagger" in self.root:
            raise InvalidArgument(
                f"this is Swagger {self.root['swagger']}, not OpenAPI 3; convert it, for example with: npx swagger2openapi FILE --outfile openapi.json"
            )
        if not version.startswith("3."):
            raise InvalidArgument(f"an OpenAPI 3 document is expected, with openapi: 3.x; got openapi: {self.root.get('openapi')!r}")
        if not isinstance(self.root.get("paths", {}), Mapping):
            raise InvalidArgument(f"paths of an OpenAPI 3 document must be an object, got {type(self.root['paths']).__name__}")
        self.modern = not version.startswith("3.0")
        """From 3.1 on schemas are those of JSON Schema: what stands beside ``$ref`` counts."""

    def locate(self, reference: str, file: str) -> tuple[str, str]:
        """Return the file and the pointer that a reference in a file means.

        Args:
            reference: What ``$ref`` says.
            file: The file in which it stands, relative to the document's folder; ``""`` is the document.

        Raises:
            Unusable: It leads out of the folder, to the network, or is no pointer.
        """
        target, _, pointer = reference.partition("#")
        pointer = urllib.parse.unquote(pointer)
        if pointer and not pointer.startswith("/"):
            raise Unusable(f"the reference {reference!r} is no pointer into a document")
        if not target:
            return file, pointer
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:|[/\\]", target):
            raise Unusable(f"the reference {reference!r} leads away; only files beside the document are read")
        if self._folder is None or self._own is None:
            raise Unusable(f"the reference {reference!r} leads to another file; give the path of the document, not its content")
        path = (self._folder / Path(file).parent / urllib.parse.unquote(target)).resolve()
        if not path.is_relative_to(self._folder):
            raise Unusable(f"the reference {reference!r} leads out of the document's folder")
        return ("" if path == self._own else path.relative_to(self._folder).as_posix()), pointer

    def at(self, file: str, pointer: str) -> Any:
        """Return what stands at a place that ``locate`` returned; raises ``Unusable``."""
        if file not in self._files:
            assert self._folder is not None  # locate would have refused
            try:
                self._files[file] = _read(self._folder / file)
            except (OSError, ValueError) as fault:
                raise Unusable(f"the file {file!r} beside the document cannot be read: {str(fault).splitlines()[0]}") from None
        node = self._files[file]
        for part in pointer.split("/")[1:]:
            part = part.replace("~1", "/").replace("~0", "~")
            if isinstance(node, list) and part.isdecimal() and int(part) < len(node):
                node = node[int(part)]
            elif isinstance(node, Mapping) and part in node:
                node = node[part]
            else:
                raise Unusable(f"the reference {file}#{pointer} leads nowhere")
        return node

    def resolved(self, node: Any, file: str) -> tuple[Any, str]:
        """Return what a node refers to, or the node itself if it is no reference, and the file in which that stands."""
        for _ in range(_HOPS):
            if not (isinstance(node, Mapping) and isinstance(reference := node.get("$ref"), str)):
                return node, file
            file, pointer = self.locate(reference, file)
            node = self.at(file, pointer)
        raise Unusable(f"the reference {reference!r} leads around in a circle")

    def object(self, node: Any, file: str, what: str) -> tuple[Mapping[str, Any], str]:
        """The same for what must be an object."""
        node, file = self.resolved(node, file)
        if not isinstance(node, Mapping):
            raise Unusable(f"{what} must be an object, got {type(node).__name__}")
        return node, file
