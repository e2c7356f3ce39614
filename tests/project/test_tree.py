"""What no file of the tree may hold."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import ROOT

MARKERS = re.compile(rb"^(?:<{7}|>{7}|\|{7})(?: .*)?$|^={7}$", re.MULTILINE)
"""The four lines that git leaves where two branches disagree. A heading underlined with exactly seven signs is taken for one: use ``#``."""
GENERATED = {".git", ".venv", "build", "dist", "runs", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis"}


def text_files() -> Iterator[Path]:
    """Yield every file of text that belongs to the project: what git tracks, or, without git, all but what is generated."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False) if (ROOT / ".git").exists() else None
    if listed is not None and listed.returncode == 0:
        files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    else:
        files = [path for path in ROOT.rglob("*") if not GENERATED & set(path.relative_to(ROOT).parts)]
    for path in files:
        if path.is_file() and b"\0" not in path.read_bytes()[:8000]:
            yield path


def test_no_conflict_markers() -> None:
    files = list(text_files())
    assert ROOT / "README.md" in files
    found = [f"{path.relative_to(ROOT)}: {match[0].decode()!r}" for path in files for match in MARKERS.finditer(path.read_bytes())]
    assert not found, f"unresolved conflicts: {found}"


@pytest.mark.parametrize("line", ["<<<<<<< HEAD", "=======", ">>>>>>> other branch", "||||||| base"])
def test_every_marker_is_seen(line: str) -> None:
    assert MARKERS.search(f"before\n{line}\nafter\n".encode())


@pytest.mark.parametrize("line", ["========", "| a | b |", "<<<<<<<x", "  =======", "x >>>>>>> y"])
def test_other_lines_are_none(line: str) -> None:
    assert not MARKERS.search(f"before\n{line}\nafter\n".encode())


BRITISH = "behaviour colour optimisation optimise normalise minimise judgement licence catalogue neighbour favour summarise recognise centre analyse"
DATA = ("steptool_env/tasks/worlds/", "tests/env/tasks/", "tests/project/test_tree.py")
"""The words of generated worlds are data, which models were trained on."""


def test_one_spelling() -> None:
    """American spelling, in code and in prose."""
    wrong = re.compile(rf"(?<![A-Za-z])({'|'.join(BRITISH.split())})", re.IGNORECASE)
    for path in text_files():
        name = str(path.relative_to(ROOT))
        if path.suffix in (".py", ".md", ".cfg", ".toml") and not name.startswith(DATA):
            found = wrong.search(path.read_text(encoding="utf-8"))
            assert not found, f"{name} spells {found and found[0]!r}"
