"""The rows of a table with the settings that a search has found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from steptool_agents.experiments.found import read_settings, tuned
from steptool_agents.experiments.grid import METHODS, Spec, rows
from steptool_env.errors import CheckpointError, UnknownName


def test_knobs_within_the_options_of_an_algorithm() -> None:
    methods = tuned({"SFT": {"knobs": {}}, "mine": {"knobs": {"lr": 1.0, "algo_options.beta": 0.5}}}, {"mine": {"algo": "eto", "algo_options": {"pairs": 2}}})
    config = Spec(methods=methods).config("mine", 0)
    assert (config.learning.lr, config.learning.algo_options) == (1.0, {"pairs": 2, "beta": 0.5})


def test_rows_are_methods_or_algorithms() -> None:
    assert rows(["StepTool", "rloo"]) == {"StepTool": METHODS["StepTool"], "rloo": {"algo": "rloo"}}
    assert rows() == METHODS
    with pytest.raises(UnknownName, match="Did you mean 'grpo'"):
        rows(["grppo"])


def test_all_begin_with_the_same_warm_start() -> None:
    found: dict[str, Any] = {"SFT": {"knobs": {"demo_lr": 1.0}}, "RFT": {"knobs": {"lr": 2.0}}}
    made = tuned(found, {name: METHODS[name] for name in found})
    assert made == {"SFT": {"demo_lr": 1.0, "algo": "sft"}, "RFT": {"demo_lr": 1.0, "algo": "rft", "lr": 2.0}}
    assert tuned(found, {"RFT": METHODS["RFT"]}) == {"RFT": made["RFT"]}, "also where the supervised row is left out"
    with pytest.raises(UnknownName, match="unknown method of this search 'ETO'"):
        tuned(found, {"ETO": METHODS["ETO"]})


def test_an_ablation_takes_what_was_found_for_the_whole_method_except_what_it_sets_itself() -> None:
    found: dict[str, Any] = {"StepTool": {"knobs": {"lr": 2.0, "lam": 0.5, "negative": 0.3}}}
    made = tuned(found, {name: METHODS[name] for name in ("SC only", "reference credit")})
    assert made["SC only"] == {"algo": "step-ppo", "shaper_options": {"beta": 0.0}, "lr": 2.0, "lam": 0.5, "negative": 0.3}
    assert made["reference credit"] == {**METHODS["reference credit"], "lr": 2.0}
    with pytest.raises(UnknownName, match="'Con only'"):
        tuned({"SFT": {"knobs": {}}}, {"Con only": METHODS["Con only"]})
    own = {**found, "SC only": {"knobs": {"lr": 3.0}}}
    assert tuned(own, {"SC only": METHODS["SC only"]})["SC only"]["lr"] == 3.0


def test_mistakes(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"SFT": {}}', '{"SFT": {"knobs": 1}}'):
        (tmp_path / "settings.json").write_text(text)
        with pytest.raises(CheckpointError, match="holds no settings"):
            read_settings(tmp_path / "settings.json")
