"""What a contributor is told: the places exist, the hooks run what ``make lint`` runs, the templates ask for seed and command."""

from __future__ import annotations

import re

import pytest
from project import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TEMPLATES = sorted((ROOT / ".github").rglob("*.*"))


def test_every_place_exists() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| a")]
    assert len(rows) == 9
    for row in rows:
        for place in re.findall(r"`((?:steptool_env|agents)/[\w/.]*)`", row):
            assert (ROOT / place).exists(), f"CONTRIBUTING.md sends people to {place}, which does not exist"
        if registry := re.search(r"`([A-Z]+)` in `([\w/.]+)`", row):
            assert re.search(rf"^{registry[1]}\b.*= \{{", (ROOT / registry[2]).read_text(encoding="utf-8"), re.MULTILINE), f"{registry[2]} has no {registry[1]}"


def test_every_make_target_and_test_file_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", TEXT, re.MULTILINE)) <= targets
    for file in re.findall(r"tests/[\w/]+\.py", TEXT):
        assert (ROOT / file).is_file(), f"CONTRIBUTING.md names {file}, which does not exist"


def test_what_ci_runs_is_told() -> None:
    lines = re.findall(r"^make ([a-z ]+)", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    run = [target for line in lines for target in line.split()]
    told = re.search(r"^CI runs (.+?) \(`\.ci/run`\)", TEXT, re.MULTILINE)
    assert told is not None
    assert re.findall(r"`make (\w+)`", told[1]) == run
    assert run


def test_every_check_of_the_makefile_is_told() -> None:
    targets = dict(re.findall(r"^([a-z]+):.*## (.*)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for target in targets.keys() - {"help", "demo", "clean"}:
        assert f"make {target}" in TEXT, f"CONTRIBUTING.md does not say what make {target} is for"


def test_the_hooks_are_those_of_make_lint() -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nlint:")[2].partition("\n\n")[0]
    linted = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()[1:]]
    hooks = re.findall(r"^\s+entry: (.+)$", (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    assert hooks == linted
    assert linted


@pytest.mark.parametrize("template", TEMPLATES, ids=[path.name for path in TEMPLATES])
def test_templates_ask_for_seed_and_command(template: object) -> None:
    text = (ROOT / str(template)).read_text(encoding="utf-8").lower()
    assert "seed" in text
    assert "command" in text
