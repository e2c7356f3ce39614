"""Imports go down the layers only, and modules never wait for one another; the environment knows neither torch nor the agents."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from floors import AGENTS, ENVIRONMENT, FRONT
from project import ROOT

HEAVY = ("accelerate", "peft", "safetensors", "stable_baselines3", "tokenizers", "torch", "transformers", "steptool_agents", "agents")
MOST_LINES = 350


def imports(file: Path, package: str, folder: Path, within_functions: bool = True) -> Iterator[str]:
    """Yield the full names of all modules that a file imports, but not those for type hints only."""
    here = [package, *file.relative_to(folder).with_suffix("").parts]

    def visit(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from visit(other)
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not within_functions:
            return
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level] if node.level else []
            module = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            yield from (f"{module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            yield from visit(child)

    yield from visit(ast.parse(file.read_text(encoding="utf-8")))


def graph(package: str, folder: Path, *, whole_folders: bool, within_functions: bool = True) -> dict[str, set[str]]:
    """Return module -> modules of the same package that it imports.

    Args:
        package: Its name.
        folder: Where it is.
        whole_folders: Take a folder as one module.
        within_functions: Count imports within functions, too.
    """
    files = {".".join(file.relative_to(folder).with_suffix("").parts): file for file in folder.rglob("*.py")}

    def short(name: str) -> str:
        return name.split(".")[0] if whole_folders else name

    found: dict[str, set[str]] = {short(name): set() for name in files}
    for name, file in files.items():
        for target in imports(file, package, folder, within_functions):
            if target != package and not target.startswith(f"{package}."):
                continue
            parts = target.split(".")[1:]
            prefixes = [parts[:size] for size in range(len(parts), -1, -1)]
            modules = [".".join(prefix) for prefix in prefixes] + [".".join([*prefix, "__init__"]) for prefix in prefixes]
            found[short(name)].add(short(next(module for module in modules if module in files)))
        found[short(name)].discard(short(name))
    return found


def circle(found: dict[str, set[str]]) -> list[str]:
    """Return modules that import one another in a circle, or an empty list."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name not in done:
            for target in sorted(found.get(name, ())):
                if ring := walk(target, [*path, name]):
                    return ring
            done.add(name)
        return []

    return next((ring for name in sorted(found) if (ring := walk(name, []))), [])


PACKAGES = {"steptool_env": (ROOT / "steptool_env", ENVIRONMENT), "steptool_agents": (ROOT / "agents", AGENTS)}
each_package = pytest.mark.parametrize("package", PACKAGES)


@each_package
def test_imports_go_down(package: str) -> None:
    """A folder imports only what stands above it in the list, also within functions: no import hides a circle."""
    folder, floors = PACKAGES[package]
    level = {name: number for number, floor in enumerate(floors) for name in floor}
    for name, targets in graph(package, folder, whole_folders=True).items():
        if name in FRONT:
            continue
        assert name in level, f"{package}.{name} is new: say in tests/helpers/floors.py where it stands"
        for target in targets:
            assert level.get(target, 99) < level[name], f"{package}.{name} imports {package}.{target}, which does not stand above it"


def test_the_design_page_lists_the_folders_in_their_order() -> None:
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `agents/(\w+)/` \|", page, re.MULTILINE)
    assert named == [name for floor in AGENTS for name in floor]


@pytest.mark.parametrize("file", [*(ROOT / "agents").rglob("*.py"), *(ROOT / "steptool_env").rglob("*.py")], ids=lambda file: str(file.relative_to(ROOT)))
def test_no_file_is_longer_than_one_can_read(file: Path) -> None:
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"{file.relative_to(ROOT)} has {lines} lines; split it by idea"


def test_the_tests_mirror_the_source() -> None:
    """Every folder of tests stands for a folder of the source."""
    for test, source in (("env", "steptool_env"), ("agents", "agents")):
        for file in (ROOT / "tests" / test).rglob("test_*.py"):
            assert (ROOT / source / file.parent.relative_to(ROOT / "tests" / test)).is_dir(), file


@each_package
def test_no_module_needs_itself_to_be_imported(package: str) -> None:
    folder, _ = PACKAGES[package]
    ring = circle(graph(package, folder, whole_folders=False, within_functions=False))
    assert not ring, " -> ".join(ring)


def test_algorithms_do_not_import_one_another() -> None:
    found = graph("steptool_agents", ROOT / "agents", whole_folders=False)
    algorithms = {name for name in found if name.startswith("algorithms.") and name != "algorithms.__init__"}
    assert {(name, target) for name in algorithms for target in found[name] & algorithms} == set()


@pytest.mark.parametrize("file", sorted((ROOT / "steptool_env").rglob("*.py")), ids=lambda file: str(file.relative_to(ROOT)))
def test_the_environment_names_no_learning_library(file: Path) -> None:
    for module in imports(file, "steptool_env", ROOT / "steptool_env"):
        assert module.split(".")[0] not in HEAVY


@pytest.mark.parametrize("file", sorted((ROOT / "agents").rglob("*.py")), ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_within_the_agents_are_relative(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    absolute = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    absolute += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    assert not [name for name in absolute if name.split(".")[0] in ("steptool_agents", "agents")]


def test_importing_the_environment_imports_no_learning_library() -> None:
    program = f"import steptool_env, sys; found = set({HEAVY!r}) & set(sys.modules); assert not found, found"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


# ---------------------------------------------------------------- the checks see what they should
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import torch.nn as nn", {"torch.nn"}),
        ("def f():\n    from torch import nn", {"torch.nn"}),
        ("from . import credit", {"p.credit"}),
        ("from .credit import step_gae", {"p.credit.step_gae"}),
        ("if TYPE_CHECKING:\n    import torch\nelse:\n    import json", {"json"}),
        ("try:\n    import torch\nexcept ImportError:\n    pass", {"torch"}),
    ],
)
def test_imports_are_found(tmp_path: Path, code: str, expected: set[str]) -> None:
    (tmp_path / "m.py").write_text(code, encoding="utf-8")
    assert set(imports(tmp_path / "m.py", "p", tmp_path)) == expected


def test_circles_are_found(tmp_path: Path) -> None:
    sources = {"a": "from .b import x", "b": "def f():\n    from . import c", "c": "from p.sub.d import y", "sub/__init__": "", "sub/d": "from ..a import z"}
    for name, code in sources.items():
        file = tmp_path / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(code, encoding="utf-8")
    found = graph("p", tmp_path, whole_folders=False)
    assert circle(found) == ["a", "b", "c", "sub.d", "a"]
    assert circle(graph("p", tmp_path, whole_folders=False, within_functions=False)) == []
