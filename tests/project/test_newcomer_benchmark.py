"""benchmarks/newcomer.py reads what docs/own_suite.md says."""

from __future__ import annotations

from benchmark_files import load

newcomer = load("newcomer")


def test_the_files_and_commands_of_the_page() -> None:
    text = newcomer.PAGE.read_text(encoding="utf-8")
    assert list(newcomer.files(text)) == ["shop.py", "gentle.py"]
    audit, train, evaluation = newcomer.commands(text)
    assert audit.startswith("steptool audit --suite shop.py --shaper gentle.py:reward")
    assert train.startswith("steptool train --suite shop.py --shaper gentle.py:reward") and "--set" not in train, "the settings are those by default"
    assert evaluation.startswith("steptool eval --run ")


def test_the_results_are_of_these_commands() -> None:
    page = newcomer.RESULTS.read_text(encoding="utf-8")
    for command in newcomer.commands(newcomer.PAGE.read_text(encoding="utf-8")):
        assert f"| `{command}` |" in page
