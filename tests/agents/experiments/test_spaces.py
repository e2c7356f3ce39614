"""What a search may choose: every value is one that its setting takes, and all policy gradients choose from the same list."""

from __future__ import annotations

import json
from typing import Any

import pytest

from steptool_agents.algorithms import ALGORITHMS
from steptool_agents.experiments.grid import METHODS, Spec
from steptool_agents.experiments.spaces import ANY_SPACE, COMMON, PRESETS, SPACES, Range, presets, widened


def _ends(choice: Any) -> list[Any]:
    return [choice.low, choice.high] if isinstance(choice, Range) else list(choice)


@pytest.mark.parametrize("row", METHODS)
def test_every_value_is_one_that_the_setting_takes_and_turns_something(row: str) -> None:
    assert row in SPACES
    for name, choice in SPACES[row].items():
        assert len(set(_ends(choice))) >= 2
        methods = {str(value): {**METHODS[row], name: value} for value in _ends(choice)}
        configs = [Spec(methods=methods).config(method, 0) for method in methods]
        assert len({json.dumps(config.as_dict(), sort_keys=True) for config in configs}) == len(methods), name


def test_all_policy_gradients_choose_from_the_same_list() -> None:
    gradients = [row for row in METHODS if ALGORITHMS[METHODS[row]["algo"]].entry == ".step_ppo:train"]
    assert len(gradients) > 10
    for row in [*gradients, "ArCHer lite"]:
        taken_out = {"imitate"} if row == "w/o imitation" else set()  # the ablation of it
        assert {name: choice for name, choice in SPACES[row].items() if name in COMMON} == {name: COMMON[name] for name in COMMON if name not in taken_out}, row
        assert not {"shaper", "shaper_options"} & set(SPACES[row]), "a row is named by its reward"
        assert "credit" not in SPACES[row] or METHODS[row]["algo"] == "gigpo", "and by its credit; only GiGPO has two forms"


def test_every_row_begins_with_the_presets_and_its_own_settings() -> None:
    config = Spec().config("PPO (final)", 0)
    settings = {name.partition(".")[2]: value for name, value in config.flat().items()}
    assert presets(SPACES["PPO (final)"], settings) == [{"lam": 0.9, **preset} for preset in PRESETS]
    assert presets(ANY_SPACE, settings) == list(PRESETS)
    supervised = {"demo_lr": 2e-3, "demo_epochs": 1, "demo_batch": 16, "lr": 1.0}
    assert presets(SPACES["SFT"], supervised) == [{name: supervised[name] for name in ("demo_lr", "demo_epochs", "demo_batch")}], "not twice"
    assert presets({"lr": Range(1e-3, 1e-2, log=True)}, {}) == [], "a preset out of the range is left to the search"


@pytest.mark.parametrize(
    ("choice", "best", "low", "high"),
    [
        (Range(1e-4, 1e-2, log=True), 1e-3, 1e-4, 1e-2),
        (Range(1e-4, 1e-2, log=True), 1.5e-4, 2.5e-5, 1e-2),  # a tenth of the range, in its logarithm, ends at 1e-4 · 100 ** .1 = 1.58e-4
        (Range(1e-4, 1e-2, log=True), 1.6e-4, 1e-4, 1e-2),
        (Range(1e-4, 1e-2, log=True), 1e-2, 1e-4, 4e-2),
        (Range(0.2, 1.0, most=1.0), 0.25, 0.0, 1.0),  # down by half its length, .4, and not below 0
        (Range(0.2, 1.0, most=1.0), 1.0, 0.2, 1.0),
        (Range(0.0, 1.0), 0.95, 0.0, 1.5),
    ],
)
def test_a_best_value_at_the_edge_widens_the_range(choice: Range, best: float, low: float, high: float) -> None:
    found = widened(choice, best)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.log, found.least, found.most) == (choice.log, choice.least, choice.most)
