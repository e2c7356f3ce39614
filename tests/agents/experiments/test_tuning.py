"""The search for settings: equal budgets, halving, finals over all seeds, on tasks of its own; an interrupted one goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from grids import SMALL
from lms import TINY  # noqa: F401  # sets one thread

from steptool_agents.experiments import tuning
from steptool_agents.experiments.found import read_settings
from steptool_agents.experiments.grid import METHODS, Spec, suite_of
from steptool_agents.experiments.studies import Studies, TrialState, trial_folder
from steptool_agents.experiments.trials import run_trial
from steptool_agents.experiments.tuning import SEEDS, VALIDATION, Search, read_search, search_settings
from steptool_env.errors import CheckpointError

PLAYED = {"split": "train", "slice": [5, 9]}
BUDGET = 100


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


class _Played:
    """Stands in for the processes of trials: nothing is trained, a trial's success follows from its settings."""

    def __init__(self, out: Path, broken: int = -1) -> None:
        self.out, self.broken = out, broken
        self.log: list[tuple[str, int, int]] = []

    def __call__(self, module: str, out: str, row: str, seed: str, number: str, **_: Any) -> int:
        assert (module, out) == ("trials", str(self.out))
        studies, self.log = Studies(self.out), [*self.log, (row, int(seed), int(number))]
        if len(self.log) == self.broken:
            return 1
        study, trial = studies.of(row, int(seed)), studies.trial(row, int(seed), int(number))
        known = studies.trials(row, int(seed))[int(number)]
        success = 1 - abs(known.params.get("lr", 1.1e-4) - 1.1e-4) * 100
        for rung in (1, 2):
            if not known.user_attrs.get("finalist"):
                trial.report(success, rung)
                if trial.should_prune() and not known.user_attrs.get("preset"):
                    trial.set_user_attr("env_steps", BUDGET * rung // 4)
                    study.tell(int(number), state=TrialState.PRUNED)
                    return 0
        trial.set_user_attr("env_steps", BUDGET if row != "SFT" else 0)
        study.tell(int(number), success)
        return 0


def _search(**changed: Any) -> Search:
    methods = {row: METHODS[row] for row in ("SFT", "StepTool", "GRPO (final)")}
    return Search(**{"methods": methods, "settings": {"budget_steps": BUDGET}, "validation": PLAYED, "worth": 12, **changed})


def test_every_row_has_the_same_budget_and_the_best_are_trained_with_all_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played = _Played(tmp_path)
    monkeypatch.setattr(tuning, "run_child", played)
    seen: list[tuple[str, int, int, str]] = []
    found = search_settings(_search(), tmp_path, processes=1, on_trial=lambda *trial: seen.append(trial))
    assert {row for row, *_ in played.log[:10]} == {"SFT"}, "the supervised row comes first: a preset for each seed, and 12 trials, 4 of them for finals"
    in_order = sorted(played.log, key=lambda job: list(_search().methods).index(job[0]))
    assert [row for row, *_ in played.log] == [row for row, *_ in in_order], "a row is done before the next one begins"
    assert found == read_settings(tmp_path / "settings.json")
    for row in ("StepTool", "GRPO (final)"):
        for seed in SEEDS:
            of_seed = [trial for trial in found[row]["trials"] if trial["seed"] == seed]
            own = [trial for trial in of_seed if not trial["preset"] and not trial["finalist"]]
            # 12 runs: 2 × 4 before the finals; the last trial may begin with little left.
            assert 4 * BUDGET <= sum(trial["env_steps"] for trial in own) < 5 * BUDGET
            assert {trial["reached"] for trial in own} >= {0.25, 1.0}, "halving"
            presets = [(3e-4, 2, "steps"), (3e-4, 2, "episodes"), (8e-4, 1, "none")]
            assert [tuple(trial["knobs"][name] for name in ("lr", "epochs", "imitate")) for trial in of_seed[:3]] == presets, "they come first"
            assert [trial["preset"] for trial in of_seed].count(True) == 3
            assert all(trial["reached"] == 1.0 for trial in of_seed[:3]), "and are trained to their end, whatever they are worth after a quarter"
            finalists = [trial for trial in of_seed if trial["finalist"]]
            assert len(finalists) <= tuning.FINALISTS
            assert all(trial["reached"] == 1.0 for trial in finalists)
        assert set(found[row]["by_seed"]) == set(map(str, SEEDS))
        best = max(trial["success"] for trial in found[row]["trials"])
        assert found[row]["success"] == pytest.approx(best), "here the seeds say the same"
    assert any("lr" in grown for grown in found["StepTool"]["widened"].values()) or found["StepTool"]["knobs"]["lr"] > 1.3e-4
    assert len(found["SFT"]["trials"]) == 12 - 2 * tuning.FINALISTS + sum(trial["preset"] or trial["finalist"] for trial in found["SFT"]["trials"])
    assert {state for *_, state in seen} == {"done", "pruned"}
    before = len(played.log)
    again = search_settings(_search(), tmp_path, processes=1)
    assert len(played.log) == before, "nothing is trained twice"
    assert again["StepTool"]["knobs"] == found["StepTool"]["knobs"]


def test_a_search_that_was_stopped_goes_on_and_draws_what_it_would_have_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    methods = {"StepTool": METHODS["StepTool"]}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    monkeypatch.setattr(tuning, "run_child", _Played(whole))
    expected = search_settings(_search(methods=methods), whole, processes=1)
    monkeypatch.setattr(tuning, "run_child", _Played(parts, broken=5))
    with pytest.raises(CheckpointError, match=r"1 trial failed; .*log\.txt says why"):
        search_settings(_search(methods=methods), parts, processes=1)
    monkeypatch.setattr(tuning, "run_child", _Played(parts))
    assert search_settings(_search(methods=methods), parts, processes=1) == expected
    with pytest.raises(CheckpointError, match="another search"):
        search_settings(_search(methods=methods, tasks=5), parts, processes=1)


def test_the_first_settings_win_a_tie() -> None:
    means = {"preset": (235 / 300 + 248 / 300) / 2, "drawn": (240 / 300 + 243 / 300) / 2}
    assert means["preset"] < means["drawn"], "by rounding alone"
    assert tuning.highest(means) == "preset"
    assert tuning.highest({**means, "better": 0.806}) == "better"


def test_rows_may_come_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts, other = tmp_path / "whole", tmp_path / "parts", tmp_path / "other"
    monkeypatch.setattr(tuning, "run_child", _Played(whole))
    expected = search_settings(_search(), whole, processes=1)
    monkeypatch.setattr(tuning, "run_child", _Played(parts))
    assert set(search_settings(_search(methods={row: METHODS[row] for row in ("SFT", "StepTool")}), parts, processes=1)) == {"SFT", "StepTool"}
    found = search_settings(_search(methods={"GRPO (final)": METHODS["GRPO (final)"]}), parts, processes=1)
    assert found == expected == read_settings(parts / "settings.json")
    with pytest.raises(CheckpointError, match=r"another search, with other StepTool"):
        search_settings(_search(methods={"StepTool": {**METHODS["StepTool"], "lam": 0.9}}), parts, processes=1)

    monkeypatch.setattr(tuning, "run_child", _Played(other))
    search_settings(_search(methods={"StepTool": METHODS["StepTool"]}), other, processes=1)
    with pytest.raises(CheckpointError, match="without the warm start that SFT would give"):
        search_settings(_search(), other, processes=1)


def test_two_processes_share_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "run_child", played := _Played(tmp_path))
    found = search_settings(_search(worth=6), tmp_path, processes=2)
    assert len(set(played.log)) == len(played.log) == sum(len(one["trials"]) for one in found.values())


def test_one_seed_needs_no_finals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "run_child", _Played(tmp_path))
    found = search_settings(_search(seeds=[7], worth=3), tmp_path, processes=1)
    assert not any(trial["finalist"] for one in found.values() for trial in one["trials"])


@pytest.mark.slow
def test_a_real_trial_is_compared_and_measured(tmp_path: Path) -> None:
    search = Search({"StepTool": METHODS["StepTool"]}, {**SMALL, "updates": 9, "budget_steps": 60}, PLAYED, tasks=2, seeds=[3])
    studies = Studies(tmp_path)
    number = studies.ask("StepTool", 3, search.space("StepTool"))
    run_trial(search, tmp_path, "StepTool", 3, number)
    (trial,) = Studies(tmp_path).trials("StepTool", 3)
    assert trial.state is TrialState.COMPLETE
    assert trial.value in (0.0, 0.5, 1.0)
    assert trial.user_attrs["env_steps"] >= 60
    assert trial.intermediate_values
    assert (trial_folder(tmp_path, "StepTool", 3, number) / "run" / "report.json").exists()


def test_a_trial_that_half_of_the_others_are_better_than_ends(tmp_path: Path) -> None:
    search = Search({"StepTool": METHODS["StepTool"]}, {**SMALL, "updates": 9, "budget_steps": 60}, PLAYED, tasks=2, seeds=[3])
    studies = Studies(tmp_path)
    for _ in range(2):
        better = studies.trial("StepTool", 3, studies.ask("StepTool", 3, search.space("StepTool")))
        better.report(2.0, 1)
        better.should_prune()
    number = studies.ask("StepTool", 3, search.space("StepTool"))
    run_trial(search, tmp_path, "StepTool", 3, number)
    trial = Studies(tmp_path).trials("StepTool", 3)[number]
    assert trial.state is TrialState.PRUNED
    assert set(trial.intermediate_values) == {1}
    assert 0 < trial.user_attrs["env_steps"] < 60
    assert not (trial_folder(tmp_path, "StepTool", 3, number) / "run" / "report.json").exists()


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no search"):
        read_search(tmp_path)
    (tmp_path / "search.json").write_text('{"tasks": "many"}')
    with pytest.raises(CheckpointError, match="holds no search"):
        read_search(tmp_path)
