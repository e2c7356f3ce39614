"""Tutorials are whole: a title, a picture or a table at the end, a place in the list. ``make docs`` executes them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from project import ROOT

FOLDER = ROOT / "docs" / "tutorials"
TUTORIALS = sorted(FOLDER.glob("*.py"))


def cells(path: Path) -> list[tuple[str, str]]:
    """Return (kind, text) of every cell."""
    parts = re.split(r"^# %%(.*)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert not parts[0].strip(), f"{path.name} begins before its first cell"
    return [("text" if "[markdown]" in kind else "code", text) for kind, text in zip(parts[1::2], parts[2::2], strict=True)]


@pytest.mark.parametrize("path", TUTORIALS, ids=[path.stem for path in TUTORIALS])
def test_a_tutorial_is_whole(path: Path) -> None:
    kinds = cells(path)
    title = re.match(r"# # (\d+)\. (.+)\n", kinds[0][1])
    assert title is not None, f"{path.name} begins with its number and title"
    assert int(title[1]) == int(path.name[:2])
    code = [text for kind, text in kinds if kind == "code"]
    assert "plt.show()" in code[-1] or re.search(r"^table$|Table\(|to_markdown", code[-1], re.MULTILINE), f"{path.name} ends without a picture or a table"
    for text in code:
        ast.parse(text)
    assert f"({path.name})" in (FOLDER / "index.md").read_text(encoding="utf-8"), f"index.md does not list {path.name}"


def test_exercises_have_solutions() -> None:
    with_exercises = [path for path in TUTORIALS if "## Exercises" in path.read_text(encoding="utf-8")]
    assert {path.name[:2] for path in with_exercises} >= {"03", "04"}
    for path in with_exercises:
        text = path.read_text(encoding="utf-8").partition("## Exercises")[2]
        assert "<summary>Solution" in text, f"{path.name}: what a teacher hands out has solutions, folded away"
        assert text.count("<details") == text.count("</details>")
