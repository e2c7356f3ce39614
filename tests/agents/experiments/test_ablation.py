"""Ablations: factors become a grid, the grid is resumed, and every number comes from stored episodes."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import steptool
from episodes import episode
from grids import SMALL
from lms import TINY  # noqa: F401  # sets one thread

from steptool_agents.cli.ablate import read_factors
from steptool_agents.experiments import ablation
from steptool_agents.experiments.ablation import FILES, ablate, ablation_spec, as_markdown, build, level_text, write
from steptool_agents.experiments.cells import run_cell
from steptool_agents.experiments.grid import cell_folder, evaluations
from steptool_agents.runs import run
from steptool_agents.runs.folder import has_warm_start
from steptool_agents.trajectory import write_jsonl
from steptool_env.errors import CheckpointError, InvalidArgument, UnknownName
from steptool_env.tasks.worlds import Worlds

OWN = """
class Halved:
    def __call__(self, episode, /):
        return {"solved": 0.5 * episode[-1].outcome.solved if episode[-1].outcome is not None else 0.0}
"""


@pytest.fixture
def halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type]:
    """Yield a shaper of one's own, at the top of a file."""
    (tmp_path / "my_own_shapers.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("my_own_shapers").Halved
    del sys.modules["my_own_shapers"]


def stored(out: Path, factors: dict[str, list[Any]], verdicts: dict[tuple[Any, ...], list[list[float]]]) -> None:
    """Write an ablation with these verdicts: levels -> per seed, per task; combinations without an entry are not finished."""
    spec = ablation_spec(factors, seeds=2, tasks=4)
    out.mkdir(exist_ok=True)
    (out / "spec.json").write_text(json.dumps(spec.__dict__))
    suite = Worlds(level=1, split="test")
    for method, chosen in spec.methods.items():
        for seed, row in enumerate(verdicts.get(tuple(chosen.values()), [])):
            folder = cell_folder(out, method, seed)
            (folder / "run").mkdir(parents=True)
            (folder / "run" / "report.json").write_text(json.dumps({"seconds": 10.0, "env_steps": 100, "model_tokens": 1000 * (seed + 1)}))
            (folder / "evaluations").mkdir()
            (one,) = evaluations(spec, folder)
            write_jsonl(one.episodes, [episode(suite[k * 2500], ("", 0.0, 0.5), solved=verdict) for k, verdict in enumerate(row)])
            one.costs.write_text(json.dumps({"calls": 1.0, "env_steps": 1.0, "tokens": 1.0, "seconds": 1.0}))


TWO: dict[str, list[Any]] = {"shaper.alpha": [0.1, 0.02], "lam": [0.5, 0.9]}
FULL = {
    (0.1, 0.5): [[0, 0, 0, 0], [1, 0, 0, 0]],
    (0.1, 0.9): [[1, 1, 0, 0], [1, 1, 0, 0]],
    (0.02, 0.5): [[1, 1, 0, 0], [1, 1, 1, 0]],
    (0.02, 0.9): [[1, 1, 1, 1], [1, 1, 1, 1]],
}


def test_the_table_by_hand(tmp_path: Path) -> None:
    stored(tmp_path, TWO, FULL)
    table = build(tmp_path)
    assert table["factors"] == TWO and table["missing"] == []
    assert [(row["levels"]["shaper.alpha"], row["levels"]["lam"], row["success"]) for row in table["rows"]] == [
        *((0.1, 0.5, 1 / 8), (0.1, 0.9, 4 / 8), (0.02, 0.5, 5 / 8), (0.02, 0.9, 1.0)),
    ]
    assert table["rows"][0]["train_model_tokens"] == 1500.0
    effects = {(one["factor"], one["level"]): one for one in table["effects"]}
    assert effects["shaper.alpha", 0.1]["success"] == 5 / 16 and effects["shaper.alpha", 0.02]["success"] == 13 / 16
    assert effects["shaper.alpha", 0.1]["change"] is None and effects["shaper.alpha", 0.02]["change"] == 8 / 16
    assert effects["lam", 0.9]["change"] == 12 / 16 - 6 / 16
    assert effects["lam", 0.9]["change_low"] <= 6 / 16 <= effects["lam", 0.9]["change_high"]
    assert {path.name for path in write(table, tmp_path)} == set(FILES)
    text = as_markdown(table)
    assert "| shaper.alpha | 0.02 | 81.2 (" in text and "| +50.0 (" in text and "| 0.1 | 0.5 | 12.5 (" in text
    assert (tmp_path / "ablation.csv").read_text().splitlines()[1].startswith("0.1,0.5,0.125,")
    assert json.loads((tmp_path / "ablation.json").read_text()) == table
    assert (tmp_path / "ablation.png").read_bytes()[1:4] == b"PNG"


def test_a_level_is_compared_only_over_what_is_finished_for_all_levels(tmp_path: Path) -> None:
    stored(tmp_path, TWO, {levels: rows for levels, rows in FULL.items() if levels != (0.1, 0.9)})
    table = build(tmp_path)
    assert table["missing"] == ["shaper.alpha=0.1, lam=0.9"] and len(table["rows"]) == 3
    effects = {(one["factor"], one["level"]): one for one in table["effects"]}
    assert effects["shaper.alpha", 0.02]["combinations"] == 1 and effects["shaper.alpha", 0.02]["success"] == 5 / 8  # at lam 0.5
    assert "Not finished, and left out: shaper.alpha=0.1, lam=0.9." in as_markdown(table)


def test_a_table_without_a_whole_factor_or_without_anything(tmp_path: Path) -> None:
    stored(tmp_path / "one", {"lam": [0.5, 0.9]}, {(0.5,): [[1, 1, 1, 1]] * 2})
    table = build(tmp_path / "one")
    assert table["effects"] == [] and write(table, tmp_path / "one")
    stored(tmp_path / "none", {"lam": [0.5, 0.9]}, {})
    with pytest.raises(CheckpointError, match=r"no combination of .* is finished yet"):
        build(tmp_path / "none")
    with pytest.raises(CheckpointError, match="holds no grid"):
        build(tmp_path)


def test_tasks_that_differ_are_not_paired(tmp_path: Path) -> None:
    stored(tmp_path, {"lam": [0.5, 0.9]}, {(0.5,): [[1, 0, 0, 0]] * 2, (0.9,): [[1, 1, 0, 0]] * 2})
    spec = ablation_spec({"lam": [0.5, 0.9]}, seeds=2, tasks=4)
    for seed in range(2):
        (one,) = evaluations(spec, cell_folder(tmp_path, "lam=0.9", seed))
        write_jsonl(one.episodes, [episode(Worlds(level=2, split="test")[k], ("", 0.0, 0.5), solved=1.0) for k in range(4)])
    effects = build(tmp_path)["effects"]
    assert [one["change"] for one in effects] == [None, None] and effects[1]["success"] == 1.0


# -------------------------------------------------------------------- factors
@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (["shaper.alpha=0,.02,.1"], {"shaper.alpha": [0, 0.02, 0.1]}),
        (["depth=[1,2],[3,4]", "algo=rloo,mine.py:train"], {"depth": [[1, 2], [3, 4]], "algo": ["rloo", "mine.py:train"]}),
        (['x={"a": [1, 2]},"a,b",null,true,-1e-3'], {"x": [{"a": [1, 2]}, "a,b", None, True, -0.001]}),
    ],
)
def test_factors_as_they_are_typed(items: list[str], expected: dict[str, list[Any]]) -> None:
    assert read_factors(items) == expected


def test_objects_of_ones_own_are_levels(halved: type, tmp_path: Path) -> None:
    spec = ablation_spec({"shaper": ["steptool", halved]})
    (_, own) = spec.methods.values()
    assert own["shaper"] == f"{tmp_path / 'my_own_shapers.py'}:Halved"
    assert list(spec.methods) == ["shaper=steptool", "shaper=my_own_shapers-Halved"]
    assert level_text(own["shaper"]) == "my_own_shapers-Halved"


@pytest.mark.parametrize(
    ("factors", "kind", "message"),
    [
        ({}, InvalidArgument, "at least one factor"),
        ({"lam": [0.5]}, InvalidArgument, "at least two levels, all different"),
        ({"lam": [0.5, 0.5]}, InvalidArgument, "at least two levels, all different"),
        ({"lam": [0.5, 0.9], "learning.lam": [0.1, 0.2]}, InvalidArgument, "'lam' and 'learning.lam' are the same setting"),
        ({"lma": [0.5, 0.9]}, UnknownName, "Did you mean 'lam'"),
        ({"lam": [0.5, 2]}, InvalidArgument, "lam must be less than or equal to 1"),
        ({"shaper": ["steptool", "stpetool"]}, UnknownName, "Did you mean 'steptool'"),
        ({"shaper.alpah": [0.1, 0.2]}, UnknownName, "Did you mean 'alpha'"),
        ({"shaper": ["final", lambda episode: {"a": 1.0}]}, InvalidArgument, "cannot be found by name in another process"),
        ({"lam": [0.5, {1, 2}]}, InvalidArgument, "must be a JSON value, a function or a class"),
        ({"seed": list(range(401))}, InvalidArgument, "401 combinations, at most 400"),
    ],
)
def test_factors_that_are_none(factors: dict[str, list[Any]], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        ablation_spec(factors)


def test_labels_never_share_a_folder() -> None:
    spec = ablation_spec({"server_model": ["A b", "a-b", "a b"]})
    assert len({cell_folder(Path(), method, 0) for method in spec.methods}) == 3


# -------------------------------------------------------------------- running
@pytest.mark.slow
def test_it_runs_and_goes_on(halved: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The cells run in this process. The second one takes the warm start of the first; a second call runs nothing and gives the same table."""
    ran: list[str] = []

    def here(spec: Any, out: Path, **options: Any) -> list[Path]:
        (out / "spec.json").parent.mkdir(parents=True, exist_ok=True)
        (out / "spec.json").write_text(json.dumps(spec.__dict__))
        for method in spec.methods:
            if not (cell_folder(out, method, 0) / "evaluations").is_dir():
                ran.append(method)
                run_cell(spec, out, method, 0)
        return []

    monkeypatch.setattr(ablation, "run_grid", here)
    fits: list[int] = []
    imitate = run.imitate_oracle
    monkeypatch.setattr(run, "imitate_oracle", lambda *arguments: fits.append(1) or imitate(*arguments))
    factors = {"shaper": ["steptool", halved]}
    table = ablate(tmp_path / "a", factors, seeds=1, settings=SMALL, tasks=2)
    assert ran == ["shaper=steptool", "shaper=my_own_shapers-Halved"] and fits == [1]
    assert all(has_warm_start(cell_folder(tmp_path / "a", method, 0) / "run") for method in ran)
    assert len(table["rows"]) == 2 and table["missing"] == []
    assert ablate(tmp_path / "a", factors, seeds=1, settings=SMALL, tasks=2) == table and len(ran) == 2
    code, out, err = steptool("ablate", "--from", str(tmp_path / "a"), "--json", capsys=capsys, monkeypatch=monkeypatch)
    assert (code, err) == (0, "") and json.loads(out) == table


def test_the_command_refuses_before_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, message in {
        (): "give factors",
        ("lam",): "a factor is NAME=LEVEL,LEVEL",
        ("lam=0,.5", "lam=1,.5"): "given twice",
        ("lam=.5,.9", "--set", "shaper=none"): "unknown shaper 'none'",
        ("lam=.5,.9", "--from", "x"): "give factors",
    }.items():
        code, out, err = steptool("ablate", *arguments, capsys=capsys, monkeypatch=monkeypatch)
        assert (code, out) == (2, "") and message in err, err
    assert not list(tmp_path.iterdir())
    (tmp_path / "runs" / "ablation").mkdir(parents=True)
    (tmp_path / "runs" / "ablation" / "ablation.md").write_text("mine")
    code, _, err = steptool("ablate", "lam=.5,.9", capsys=capsys, monkeypatch=monkeypatch)
    assert code == 2 and "not what this command wrote" in err
