"""The solutions of the tutorials' exercises, executed: what their code prints is written below it, so that no figure in them is made up.

    python benchmarks/exercises.py                    # some minutes; rewrites docs/tutorials/*.py and benchmarks/results/exercises.md
    python benchmarks/exercises.py 06_final_rewards   # one tutorial

A solution is code in a folded block below ``## Exercises``, followed by a block of text: its output. The code cells of the tutorial run first, in the
same namespace. A test fails if a solution was changed and not executed again.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import os
import re
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "tutorials"
RESULTS = Path(__file__).parent / "results" / "exercises.md"
_SOLUTION = re.compile(r"^# ```python\n(?P<code>(?:#.*\n)+?)# ```\n# ```text\n(?P<output>(?:#.*\n)*?)# ```\n", re.MULTILINE)


def solutions(text: str) -> list[tuple[str, str]]:
    """Return code and output of every solution of a tutorial."""
    return [(_plain(found["code"]), _plain(found["output"])) for found in _SOLUTION.finditer(text.partition("## Exercises")[2])]


def digest(text: str) -> str:
    """Return what tells the code of a tutorial and of its solutions from another version of it; words in between may change."""
    return hashlib.sha256("\n".join([*_cells(text), *(code for code, _ in solutions(text))]).encode()).hexdigest()[:12]


def _plain(commented: str) -> str:
    return "".join(f"{line.removeprefix('#').removeprefix(' ')}\n" for line in commented.splitlines())


def _cells(text: str) -> Iterator[str]:
    parts = re.split(r"^# %%(.*)\n", text, flags=re.MULTILINE)
    return (body for kind, body in zip(parts[1::2], parts[2::2], strict=True) if "[markdown]" not in kind)


def execute(name: str) -> str:
    """Run a tutorial and its solutions; return its text with what they print."""
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.chdir(tempfile.mkdtemp()), contextlib.redirect_stdout(io.StringIO()):
        for cell in _cells(text):
            exec(compile(cell, name, "exec"), namespace)

    def run(found: re.Match[str]) -> str:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(_plain(found["code"]), f"{name}, solution", "exec"), namespace)
        output = "".join(f"# {line}".rstrip() + "\n" for line in printed.getvalue().strip("\n").splitlines())
        return f"# ```python\n{found['code']}# ```\n# ```text\n{output}# ```\n"

    before, heading, after = text.partition("## Exercises")
    return before + heading + _SOLUTION.sub(run, after)


def page(names: list[str]) -> str:
    """Return the page of results, from the tutorials as they are."""
    lines = ["# Solutions of exercises", "", "Made by `python benchmarks/exercises.py`: what the code in the solutions of the tutorials prints.", ""]
    for name in names:
        text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
        title = text.partition("\n# # ")[2].partition("\n")[0]
        lines += [f"## [{title}](../../docs/tutorials/{name}.py)", "", f"Version of the code: `{digest(text)}`.", ""]
        for number, (code, output) in enumerate(solutions(text), 1):
            lines += [f"Solution {number}:", "", "```python", code.rstrip(), "```", "```text", output.rstrip(), "```", ""]
    return "\n".join(lines)


def with_solutions() -> list[str]:
    """Return the names of the tutorials that have solutions with code."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if solutions(path.read_text(encoding="utf-8")))


def main() -> None:
    """Execute solutions, and write the page."""
    parser = argparse.ArgumentParser(description=textwrap.dedent(__doc__ or ""), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="tutorials (default: all that have solutions)")
    options = parser.parse_args()
    os.environ.setdefault("MPLBACKEND", "Agg")
    for name in options.names or with_solutions():
        started = time.monotonic()
        made = execute(name)
        (FOLDER / f"{name}.py").write_text(made, encoding="utf-8")
        print(f"{name}: {time.monotonic() - started:.0f} s", *(output for _, output in solutions(made)), sep="\n", flush=True)
    RESULTS.write_text(page(with_solutions()), encoding="utf-8")


if __name__ == "__main__":
    main()
