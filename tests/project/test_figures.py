"""Every measured figure of README.md and docs/ stands in a results file that its section links to.

The rules:

1. A page is cut into sections at its headings. The sources of a section are the files of ``benchmarks/results`` that it links to or names.
2. A figure is a number with a unit of measurement (percent, points, a time, a rate, "times as"), a number with decimals, and every number of a table that
   holds one of these. Code, commands and what ``SETTING`` recognizes (versions, γ = 0.99, "95 % intervals" …) are no figures.
3. A figure must occur in a source, as it stands or rounded: 84.5, or 84.53; 96 % also for 0.957. An interval, ``x (a to b)``, must occur as such.
4. What is no measurement in spite of its unit stands in ``NOT_MEASURED``, with the reason. An entry that no page needs any more fails.

What the rules cannot see: numbers in words, a figure in the wrong row, and whether a results file tells the truth; for that each has its command.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from project import BENCHMARKS, ROOT

PAGES = {str(path.relative_to(ROOT)): path for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]}
RESULTS = BENCHMARKS / "results"

NUMBER = r"[+\-−]?\d[\d,]*(?:\.\d+)?"
UNIT = r"(?:%|points?\b|percent\b|s\b|seconds?\b|minutes?\b|min\b|hours?\b|ms\b|µs\b|tokens/s|tokens a second|steps/s|times (?:as|faster|slower)\b|GB\b|MB\b)"
INTERVAL = re.compile(rf"({NUMBER})\s*%?\s*\(({NUMBER})\s*%?\s*to\s*({NUMBER})\s*%?\)")
FIGURE = re.compile(rf"(?<![\w.])(?P<number>{NUMBER})(?:\s*(?P<unit>{UNIT}))?(?!\w)")
SETTING = re.compile(
    r"[γλαβ]\w*\s*(?:=|of)\s*[\d.]+|arXiv [\d.]+|\bv?\d+\.\d+\.\d+\b|(?:Python|Gymnasium|Ray|torch|version) \d+\.\d+|95 % (?:bootstrap )?intervals?"
    r"|seeds? \d+(?:, \d+)*|level \d|depth ≥ \d"
)
NOT_MEASURED = {
    ("README.md", "counts 0.3 times by default"): "a default",
    ("docs/algorithms.md", "counts 0.3 times"): "a default",
    ("docs/algorithms.md", "when 0 to 40 % of the calls fail"): "what is tried, not what comes out",
    ("docs/suites.md", "2,344"): "the size of a task set",
    ("docs/suites.md", "2,285"): "the size of a task set",
}
"""(page, words of the page) -> why these are no measurement."""


class Figure(NamedTuple):
    """One number, or the three of an interval."""

    numbers: tuple[str, ...]
    percent: bool
    words: str


def plain(text: str) -> str:
    """Take out of a page what is no sentence and no table: code, links' targets, settings."""
    text = re.sub(r"^(```|~~~).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^(?:    |\t)(?![-*\d|]).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"`(?:[^`\n]|\n(?!\n))*`", "`code`", text)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return SETTING.sub("…", text)


def figures(text: str) -> Iterator[Figure]:
    """Yield the figures of a text; see the rules."""
    for block in re.split(r"\n\s*\n", plain(text)):
        rows = [line for line in block.splitlines() if line.lstrip().startswith("|")]
        table = "\n".join(rows)
        measured = bool(rows) and any(found["unit"] or "." in found["number"] for found in FIGURE.finditer(table))
        for part, every in ((table, measured), ("\n".join(line for line in block.splitlines() if line not in rows), False)):
            for found in INTERVAL.finditer(part):
                yield Figure(found.groups(), True, found[0])
            for found in FIGURE.finditer(INTERVAL.sub(" … ", part)):
                if every or found["unit"] or "." in found["number"]:
                    percent = every or any(word in part for word in ("%", "percent", "points"))
                    yield Figure((found["number"],), percent, " ".join(part[max(0, found.start() - 40) : found.end() + 25].split()))


def value(number: str) -> float:
    return float(number.replace(",", "").replace("−", "-").lstrip("+"))


def rounds_to(exact: float, number: str) -> bool:
    places = len(number.partition(".")[2])
    return abs(exact - value(number)) <= 0.5 * 10**-places + 1e-9


class Source:
    """The numbers and intervals of results files."""

    def __init__(self, texts: list[str]) -> None:
        whole = "\n".join(texts)
        self.intervals = [tuple(map(value, found.groups())) for found in INTERVAL.finditer(whole)]
        self.numbers = {value(number) for number in re.findall(rf"(?<![\w.]){NUMBER}(?:e-?\d+)?", whole) if "e" not in number}

    def backs(self, figure: Figure) -> bool:
        scales = (1.0, 100.0) if figure.percent else (1.0,)
        candidates = self.intervals if len(figure.numbers) == 3 else [(number,) for number in self.numbers]
        return any(all(rounds_to(scale * exact, number) for exact, number in zip(one, figure.numbers, strict=True)) for scale in scales for one in candidates)


def sections(page: Path) -> Iterator[str]:
    """Yield the sections of a page, without headings in code."""
    text, last = page.read_text(encoding="utf-8"), 0
    fenced = [(found.start(), found.end()) for found in re.finditer(r"^```.*?^```$", text, re.MULTILINE | re.DOTALL)]
    for heading in re.finditer(r"^#{1,4} ", text, re.MULTILINE):
        if not any(begin <= heading.start() < end for begin, end in fenced):
            yield text[last : heading.start()]
            last = heading.start()
    yield text[last:]


def unbacked(section: str, exceptions: list[str]) -> list[str]:
    """Return the figures of a section that no source of it holds, without those of the exceptions."""
    for words in exceptions:
        section = section.replace(words, "")
    names = sorted(set(re.findall(r"benchmarks/results/([\w-]+\.md)", section)))
    source = Source([(RESULTS / name).read_text(encoding="utf-8") for name in names])
    return [figure.words for figure in figures(section) if not source.backs(figure)]


@pytest.mark.parametrize("page", PAGES)
def test_every_figure_stands_in_a_results_file(page: str) -> None:
    exceptions = [words for where, words in NOT_MEASURED if where == page]
    found = [words for section in sections(PAGES[page]) for words in unbacked(section, exceptions)]
    assert not found, f"{page}: no results file that the section links to holds these:\n" + "\n".join(found)


def test_the_exceptions_are_needed() -> None:
    for (page, words), why in NOT_MEASURED.items():
        assert words in PAGES[page].read_text(encoding="utf-8"), f"{page} no longer says {words!r} ({why}): take the entry out"
        others = [other for where, other in NOT_MEASURED if where == page and other != words]
        assert any(unbacked(section, others) for section in sections(PAGES[page])), f"{page} is fine without the entry {words!r}: take it out"


def test_every_results_file_has_its_command_and_its_script() -> None:
    for file in RESULTS.glob("*.md"):
        scripts = re.findall(r"python benchmarks/(\w+\.py)", file.read_text(encoding="utf-8"))
        assert scripts, f"{file.name} does not say which command made it"
        assert all((BENCHMARKS / script).is_file() for script in scripts), f"{file.name} names a script that is not there: {scripts}"


# ---------------------------------------------------------------- the rules themselves
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It solved 84.5 % of the tasks in 13 minutes.", ["84.5", "13"]),
        ("| a | b |\n|---|---|\n| 7 | 61.5 % (54 to 69) |", ["61.5", "7"]),
        ("| level | tools |\n|---|---|\n| 1 | 4 |", []),
        ("At γ = 0.99 with `--set lr=0.3`, Python 3.11 and 95 % intervals.", []),
        ("```\n98 %\n```\n5.4 times as fast", ["5.4"]),
    ],
)
def test_what_is_a_figure(text: str, words: list[str]) -> None:
    assert [figure.numbers[0] for figure in figures(text)] == words


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("84.5 %", True),
        ("84.6 %", False),
        ("84.5 % (78 to 90)", True),
        ("84.5 % (77 to 90)", False),
        ("61 % (78 to 90)", False),
        ("95.9 % of calls", True),
        ("0.959", True),
        ("95.9 s", False),
        ("−1.1 points", True),
    ],
)
def test_what_backs_a_figure(text: str, kept: bool) -> None:
    source = Source(["| StepTool | 84.5% (78.2% to 89.9%) | 61.0 | 0.959 | −1.1 |"])
    assert [source.backs(figure) for figure in figures(text)] == [kept]
