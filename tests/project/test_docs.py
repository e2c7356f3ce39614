"""What the documents say is true: their Python runs, their commands and links exist."""

from __future__ import annotations

import ast
import doctest
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import steptool
from project import ROOT

import steptool_env

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
SOURCES = [*sorted((ROOT / "steptool_env").rglob("*.py")), *sorted((ROOT / "agents").rglob("*.py"))]
DOCTESTED = [path for path in SOURCES if ">>> " in path.read_text(encoding="utf-8")]


COMMANDS_RUN = {"own_suite.md"}
"""Pages whose ``steptool`` commands run, too, in their place between the Python blocks. Others name servers and models that a test does not have."""


def _blocks(path: Path, *languages: str) -> list[tuple[int, str]]:
    """Return (line number, text) of every fenced block in one of the languages."""
    text = path.read_text(encoding="utf-8")
    fences = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, fence.start(2)) + 1, fence[2]) for fence in fences if fence[1] in languages]


@pytest.fixture
def registries() -> Iterator[None]:
    """Take out again what a document registers."""
    before = [(registry, dict(registry)) for registry in (steptool_env.SUITES, steptool_env.SHAPERS, steptool_env.FORMATS)]
    yield
    for registry, entries in before:
        registry.clear()
        registry.update(entries)


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
@pytest.mark.usefixtures("registries")
def test_python_runs(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The blocks of a document run in order, in one namespace. One that begins with ``# not run: <reason>`` is left out.

    One that begins with ``# file: <name>`` is that file, which later blocks import. One that begins with ``# needs: <packages>`` is left out where
    they are not installed, and then the test counts as skipped; what these packages warn of is their own business. A comment behind a
    ``print`` is what it prints.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    namespace = {"__name__": "__main__"}
    before = set(sys.modules)
    missing: set[str] = set()
    try:
        for line, code in _blocks(document, "python", *(["bash"] if document.name in COMMANDS_RUN else [])):
            if file := re.match(r"# file: (\w+\.py)\n", code):
                (tmp_path / file[1]).write_text(code, encoding="utf-8")
            elif code.startswith("steptool "):
                for command in code.replace("\\\n", " ").splitlines():
                    _, *arguments = shlex.split(command, comments=True)
                    done = steptool(*arguments, capsys=capsys, monkeypatch=monkeypatch)
                    assert done[0] == 0, f"{document.name}: {command}: {done}"
            elif needs := re.match(r"# needs: (.+)\n", code):
                absent = {name for name in needs[1].split(", ") if importlib.util.find_spec(name) is None}
                missing |= absent
                if not absent:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        exec(compile("\n" * (line - 1) + code, str(document), "exec"), namespace)
            elif not re.match(r"# not run: \S", code):
                # Empty lines in front, so that a traceback names the line of the document.
                exec(compile("\n" * (line - 1) + code, str(document), "exec"), namespace)
                printed = capsys.readouterr().out
                for said in re.findall(r"^\s*print\(.*\)  # (.*)$", code, re.MULTILINE):
                    assert said in printed, f"{document.name}: a print is said to give {said!r}; the block prints {printed[:2000]!r}"
    finally:
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
                del sys.modules[name]
    if missing:
        pytest.skip(f"some blocks were left out: {', '.join(sorted(missing))} not installed")


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_what_is_defined_is_used(document: Path) -> None:
    """A page that defines a function and never calls it would show code that nobody has run."""
    blocks = [code for _, code in _blocks(document, "python") if not re.match(r"# not run: \S", code)]
    tree = ast.parse("\n".join(blocks))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            others = [other for other in tree.body if other is not node]
            used = {name.id for other in others for name in ast.walk(other) if isinstance(name, ast.Name)}
            assert node.name in used, f"{document.name} defines {node.name} and does not use it; call it, or say `# not run: <reason>`"


@pytest.mark.parametrize("source", DOCTESTED, ids=[str(path.relative_to(ROOT)) for path in DOCTESTED])
def test_examples_in_docstrings(source: Path) -> None:
    parts = list(source.relative_to(ROOT).with_suffix("").parts)
    parts[0] = {"agents": "steptool_agents"}.get(parts[0], parts[0])
    module = importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.attempted and not result.failed


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            assert (document.parent / target).exists(), f"{document.name} links to {target}, which does not exist"


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for document in DOCUMENTS:
        for target in re.findall(r"\bmake ([a-z-]+)", "\n".join(_code(document))):
            assert target in targets, f"{document.name}: there is no `make {target}`"


def test_commands_and_their_options_exist() -> None:
    """Every ``steptool COMMAND --option`` of the documents appears in the help of the command."""
    used: dict[str, set[str]] = {}
    for document in DOCUMENTS:
        for code in _code(document):
            for command, rest in re.findall(r"\bsteptool ([a-z][\w-]*)([^`\n|;&#]*)", code.replace("\\\n", " ")):
                used.setdefault(command, set()).update(re.findall(r"--[a-z][\w-]*", rest))
    assert {"train", "eval", "suites"} <= set(used)
    wide = os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    for command, options in used.items():
        program = [sys.executable, "-c", "from steptool_agents.cli import main; main()", command, "--help"]
        done = subprocess.run(program, capture_output=True, text=True, env=wide, cwd=ROOT, check=False)
        assert done.returncode == 0, f"steptool {command}: {done.stderr}"
        for option in options:
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", done.stdout), f"steptool {command} has no {option}"


def _code(document: Path) -> list[str]:
    """Return the shell blocks and the `code` inside sentences."""
    return [text for _, text in _blocks(document, "bash", "")] + re.findall(r"`([^`\n]+)`", document.read_text(encoding="utf-8"))
