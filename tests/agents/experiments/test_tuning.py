"""The search for settings: the same trials for every method, on tasks of its own, kept as JSON."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from grids import SMALL
from lms import TINY  # noqa: F401  # sets one thread

from steptool_agents.experiments.grid import METHODS, Spec, rows, suite_of
from steptool_agents.experiments.tuning import ANY_KNOBS, KNOBS, SEED, TRIALS, VALIDATION, draw_trials, read_settings, search_settings, tuned
from steptool_env.errors import CheckpointError, InvalidArgument, UnknownName


def test_every_method_has_a_search_of_the_same_size() -> None:
    assert set(KNOBS) == set(METHODS)
    for name, knobs in KNOBS.items():
        assert [len(values) for values in knobs.values()] == [3, 2, 2], name
        assert len(draw_trials(knobs, TRIALS)) == TRIALS
        spec = Spec(methods={str(k): {**METHODS[name], **trial} for k, trial in enumerate(draw_trials(knobs, 12))})
        configs = [spec.config(cell, SEED) for cell in spec.methods]  # every value is one that the setting takes
        assert len({json.dumps(config.as_dict(), sort_keys=True) for config in configs}) == 12, "every knob turns something"


def test_the_first_trial_is_the_defaults_and_none_comes_twice() -> None:
    knobs = {"lr": [1, 2, 3], "a": [4, 5], "b": [6, 7]}
    drawn = draw_trials(knobs, 6)
    assert drawn[0] == {"lr": 1, "a": 4, "b": 6}
    assert len({tuple(one.values()) for one in drawn}) == 6
    assert drawn == draw_trials(knobs, 12)[:6], "more trials begin with the same ones"
    assert {tuple(one.values()) for one in draw_trials(knobs, 99)} == set(itertools.product(*knobs.values()))
    with pytest.raises(InvalidArgument, match="at least 1 trial"):
        draw_trials(knobs, 0)


def test_knobs_within_the_options_of_an_algorithm() -> None:
    methods = tuned({"SFT": {"knobs": {}}, "mine": {"knobs": {"lr": 1.0, "algo_options.beta": 0.5}}}, {"mine": {"algo": "eto", "algo_options": {"pairs": 2}}})
    config = Spec(methods=methods).config("mine", 0)
    assert (config.learning.lr, config.learning.algo_options) == (1.0, {"pairs": 2, "beta": 0.5})


def test_an_algorithm_that_is_no_row_gets_knobs_too(tmp_path: Path) -> None:
    assert rows(["StepTool", "rloo"]) == {"StepTool": METHODS["StepTool"], "rloo": {"algo": "rloo"}}
    assert rows() == METHODS
    with pytest.raises(UnknownName, match="Did you mean 'GRPO'"):
        rows(["GRPPO"])
    found = search_settings(tmp_path, methods=rows(["rft"]), settings=SMALL, trials=1, tasks=2, validation={"split": "train", "slice": [5, 9]})
    assert found["rft"]["knobs"] == {name: values[0] for name, values in ANY_KNOBS.items()}


def test_validation_tasks_are_neither_trained_nor_tested_on() -> None:
    spec = Spec(splits={"validation": VALIDATION, "training": {"split": "train"}, "held-out": {}})
    config = spec.config("StepTool", 0)
    validation, training, held_out = (suite_of(spec, config, name) for name in spec.splits)
    assert len(validation) == 1000
    names = {validation[index].id for index in (0, 999)}
    assert not names & {training[index].id for index in (0, len(training) - 1)}
    with pytest.raises(KeyError):
        training.index(validation[0].id)
    with pytest.raises(KeyError):
        held_out.index(validation[0].id)


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


def test_a_search(tmp_path: Path) -> None:
    methods = {name: METHODS[name] for name in ("SFT", "RFT")}
    knobs = {"SFT": {"demo_lr": [1e-3, 2e-3]}, "RFT": {"lr": [1e-3]}}
    seen: list[str] = []
    validation = {"split": "train", "slice": [5, 9]}
    options: dict[str, Any] = {"methods": methods, "knobs": knobs, "settings": SMALL, "trials": 2, "tasks": 2, "validation": validation}
    found = search_settings(tmp_path, **options, on_cell=lambda name, seed, state: seen.append(f"{name} {seed} {state}"))
    assert sorted(seen[:2]) == ["SFT trial 0 1000 done", "SFT trial 1 1000 done"], "side by side"
    assert seen[2:] == ["SFT 1000 done", "RFT trial 0 1000 done"]
    assert found == read_settings(tmp_path / "settings.json")
    assert found["SFT"]["success"] == max(one["success"] for one in found["SFT"]["trials"])
    assert found["SFT"]["knobs"] in [one["knobs"] for one in found["SFT"]["trials"]]
    seen.clear()
    assert search_settings(tmp_path, **options, on_cell=lambda name, seed, state: seen.append(state)) == found
    assert set(seen) == {"was done"}


def test_mistakes(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"SFT": {}}', '{"SFT": {"knobs": 1}}'):
        (tmp_path / "settings.json").write_text(text)
        with pytest.raises(CheckpointError, match="holds no settings"):
            read_settings(tmp_path / "settings.json")
