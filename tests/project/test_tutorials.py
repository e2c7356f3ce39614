"""Tutorials are whole: a title, a picture or a table at the end, a place in the list. ``make docs`` executes them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from benchmark_files import load
from project import ROOT

exercises = load("exercises")
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
    assert {path.name[:2] for path in with_exercises} == {"03", "04", "06", "07"}
    for path in with_exercises:
        text = path.read_text(encoding="utf-8").partition("## Exercises")[2]
        assert "<summary>Solution" in text, f"{path.name}: what a teacher hands out has solutions, folded away"
        assert text.count("<details") == text.count("</details>")


def test_solutions_were_executed_as_they_stand() -> None:
    """The page holds the version of every tutorial's code, and the outputs that the solutions show."""
    assert exercises.with_solutions() == ["03_reward", "04_reinforce", "06_final_rewards", "07_wrong_credit"]
    for name in exercises.with_solutions():
        text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
        assert text.count("# ```python\n") == len(exercises.solutions(text)), f"{name}: code without a block of text for its output"
        assert all(output for _, output in exercises.solutions(text)), f"{name}: python benchmarks/exercises.py {name}"
    said = exercises.RESULTS.read_text(encoding="utf-8")
    assert said == exercises.page(exercises.with_solutions()), "code or outputs of a solution differ from what ran: python benchmarks/exercises.py"


def test_a_change_of_code_is_noticed_and_one_of_words_is_not() -> None:
    text = (FOLDER / "06_final_rewards.py").read_text(encoding="utf-8")
    assert exercises.digest(text.replace("It does: with", "Yes, with")) == exercises.digest(text)
    for old, new in (("rate=0.3", "rate=0.4"), ("(60, 120, 240)", "(60, 120)")):
        assert old in text
        assert exercises.digest(text.replace(old, new)) != exercises.digest(text)


def test_a_solution_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = "# %% [markdown]\n# # 1. T\n# %%\nx = 20\n# %% [markdown]\n"
    code = cells + "# ## Exercises\n# ```python\n# print(x + 1)\n#\n# print()\n# print(2)\n# ```\n# ```text\n# old\n# ```\n"
    (tmp_path / "01_t.py").write_text(code)
    monkeypatch.setattr(exercises, "FOLDER", tmp_path)
    assert exercises.execute("01_t") == code.replace("# old\n", "# 21\n#\n# 2\n")
    assert exercises.with_solutions() == ["01_t"]
