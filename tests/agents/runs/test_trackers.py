"""The log of a run: lines, resumption, and what a killed process leaves."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar

import accelerate.tracking
import numpy as np
import pytest
from accelerate.tracking import GeneralTracker

from steptool_agents.runs.trackers import METRICS_FILE, Metrics, read_metrics, tracker_names
from steptool_env.errors import CheckpointError, DataError, InvalidArgument, MissingExtra, UnknownName


def log(folder: Path, updates: range, *, report_to: str = "none", resume_at: int | None = None, tag: str = "first") -> None:
    with Metrics(folder, report_to, resume_at=resume_at) as metrics:
        for update in updates:
            metrics.log(update, {"loss": update / 2, "episodes": 8 * update, "phase": tag})


def test_what_is_read_is_what_was_logged(tmp_path: Path) -> None:
    log(tmp_path / "new" / "run", range(2))
    assert read_metrics(tmp_path / "new" / "run") == [
        {"update": 0, "loss": 0.0, "episodes": 0, "phase": "first"},
        {"update": 1, "loss": 0.5, "episodes": 8, "phase": "first"},
    ]
    assert read_metrics(tmp_path / "elsewhere") == []


def test_a_line_is_there_when_log_returns(tmp_path: Path) -> None:
    with Metrics(tmp_path, report_to="none") as metrics:
        metrics.log(0, {"loss": 1.0})
        assert read_metrics(tmp_path) == [{"update": 0, "loss": 1.0}]


def test_several_lines_of_one_update_and_numpy_numbers(tmp_path: Path) -> None:
    with Metrics(tmp_path, report_to="none") as metrics:
        metrics.log(3, {"loss": np.float32(0.5), "count": np.int64(4), "done": True})
        metrics.log(3, {"success": 1})
    assert read_metrics(tmp_path) == [{"update": 3, "loss": 0.5, "count": 4, "done": True}, {"update": 3, "success": 1}]


def test_a_diverged_run_can_be_looked_at(tmp_path: Path) -> None:
    with Metrics(tmp_path, report_to="none") as metrics:
        metrics.log(0, {"loss": math.nan, "kl": math.inf})
    assert json.loads((tmp_path / METRICS_FILE).read_text()) == {"update": 0, "loss": None, "kl": None}
    (record,) = read_metrics(tmp_path)
    assert math.isnan(record["loss"])


def test_resuming_drops_what_comes_again(tmp_path: Path) -> None:
    log(tmp_path, range(5))
    log(tmp_path, range(3, 6), resume_at=3, tag="second")
    records = read_metrics(tmp_path)
    assert [record["update"] for record in records] == [0, 1, 2, 3, 4, 5]
    assert [record["phase"] for record in records] == ["first"] * 3 + ["second"] * 3


def test_a_half_written_last_line_is_dropped(tmp_path: Path) -> None:
    log(tmp_path, range(3))
    path = tmp_path / METRICS_FILE
    for cut in (1, 5, 30):  # also when only the newline is missing: the process may have been killed within a number
        path.write_bytes(path.read_bytes()[:-cut])
        assert [record["update"] for record in read_metrics(tmp_path)] == [0, 1]
        log(tmp_path, range(2, 3), resume_at=3)
        assert [record["update"] for record in read_metrics(tmp_path)] == [0, 1, 2]


def test_resuming_without_metrics_starts_them(tmp_path: Path) -> None:
    log(tmp_path, range(4, 5), resume_at=4)
    assert len(read_metrics(tmp_path)) == 1


def test_a_new_run_does_not_mix_with_an_old_one(tmp_path: Path) -> None:
    log(tmp_path, range(2))
    before = (tmp_path / METRICS_FILE).read_bytes()
    with pytest.raises(CheckpointError, match="already holds the metrics of a run"):
        Metrics(tmp_path, report_to="none")
    assert (tmp_path / METRICS_FILE).read_bytes() == before


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"loss": 1}', b'{"update": "1"}', b"\xff"])
def test_a_broken_line_is_named_and_nothing_is_changed(tmp_path: Path, line: bytes) -> None:
    log(tmp_path, range(2))
    path = tmp_path / METRICS_FILE
    path.write_bytes(line + b"\n" + path.read_bytes())
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"metrics.jsonl, line 1: "):
        read_metrics(tmp_path)
    with pytest.raises(DataError, match=r"metrics.jsonl, line 1: "):
        Metrics(tmp_path, report_to="none", resume_at=1)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("update", "values", "message"),
    [
        (-1, {}, "update must be an integer, 0 or more, got -1"),
        (1.5, {}, "update must be an integer"),
        (True, {}, "update must be an integer"),
        (0, {"update": 3}, "other than 'update'"),
        (0, {3: 3}, "name must be a string"),
        (0, {"loss": None}, "metric 'loss' must be a number or a string, got NoneType"),
        (0, {"loss": [1.0]}, "got list"),
    ],
)
def test_mistakes_are_named_and_write_nothing(tmp_path: Path, update: Any, values: Any, message: str) -> None:
    with Metrics(tmp_path, report_to="none") as metrics:
        with pytest.raises(InvalidArgument, match=message):
            metrics.log(update, values)
        assert read_metrics(tmp_path) == []


def test_a_closed_log_says_so(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, report_to="none")
    metrics.close()
    metrics.close()
    with pytest.raises(InvalidArgument, match="closed"):
        metrics.log(0, {})


# ---------------------------------------------------------------- trackers
def events(folder: Path) -> Any:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorboard's own
def test_tensorboard_shows_the_last_word_on_every_update(tmp_path: Path) -> None:
    log(tmp_path, range(4), report_to="tensorboard")
    with Metrics(tmp_path, resume_at=2) as metrics:
        for update in (2, 3):
            metrics.log(update, {"loss": 10.0 + update, "kl": math.nan})
    accumulator = events(tmp_path)
    curves: dict[str, dict[int, float]] = defaultdict(dict)
    for tag in accumulator.Tags()["scalars"]:
        found = accumulator.Scalars(tag)
        assert len({event.step for event in found}) == len(found), "an update from before the resumption is still there"
        curves[tag] = {event.step: event.value for event in found}
    assert curves["loss"] == {0: 0.0, 1: 0.5, 2: 12.0, 3: 13.0}
    assert "phase" not in curves and "kl" not in curves


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_knows_the_settings_and_the_run_s_folder_stays_tidy(tmp_path: Path) -> None:
    for resume_at in (None, 1):
        with Metrics(tmp_path, resume_at=resume_at, settings=SETTINGS) as metrics:
            metrics.log(0 if resume_at is None else 1, {"loss": 1.0})
    told = events(tmp_path).PluginTagToContent("hparams")["_hparams_/session_start_info"]
    for text in (b"learning_rate", b"archer", b"(1, 2)", b"inf"):
        assert text in told
    assert all(path.name.startswith((METRICS_FILE, "events.out.tfevents", ".seals")) for path in tmp_path.iterdir())


SETTINGS = {"algorithm": "archer", "learning_rate": 0.5, "updates": 3, "shuffle": True, "suite": None, "depth": (1, 2), "budget": math.inf}


class Notebook(GeneralTracker):  # type: ignore[misc]
    """A tracker that a user has written."""

    name = "notebook"
    requires_logging_directory = False
    made: ClassVar[list[Notebook]] = []
    breaks = False

    def __init__(self, run_name: str) -> None:
        super().__init__()
        self.project, self.told, self.logged, self.state = run_name, dict[str, Any](), list[Any](), "new"
        self.made.append(self)

    @property
    def tracker(self) -> list[Any]:
        return self.logged

    def start(self) -> None:
        if self.breaks:
            raise OSError("no paper")
        self.state = "started"

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.told = values

    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.state = "finished"


class Second(Notebook):
    name = "second"
    requires_logging_directory = True

    def __init__(self, run_name: str, logging_dir: str) -> None:
        super().__init__(f"{run_name} in {logging_dir}")


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> list[Notebook]:
    monkeypatch.setattr(Notebook, "made", [])
    for kind in (Notebook, Second):
        monkeypatch.delitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, kind.name, raising=False)
        accelerate.tracking.register_tracker_class(kind)
    return Notebook.made


def test_every_tracker_of_accelerate_is_told_the_settings_and_the_finite_numbers(tmp_path: Path, registered: list[Notebook]) -> None:
    with Metrics(tmp_path / "mine", " notebook, second,notebook", settings=SETTINGS) as metrics:
        metrics.log(0, {"loss": np.float32(0.5), "kl": math.nan, "phase": "first"})
        metrics.log(1, {"phase": "second"})
        metrics.log(2, {"episodes": 8})
        assert [one.state for one in registered] == ["started"] * 2
    assert [one.project for one in registered] == ["steptool", f"mine in {tmp_path / 'mine'}"]
    for one in registered:
        assert one.logged == [(0, {"loss": 0.5}), (2, {"episodes": 8})]
        assert one.told == SETTINGS | {"depth": "(1, 2)", "budget": "inf"}
        assert one.state == "finished"
    assert len(read_metrics(tmp_path / "mine")) == 3
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {METRICS_FILE, ".seals"}


def test_a_tracker_that_cannot_start_closes_the_others(tmp_path: Path, registered: list[Notebook], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Second, "breaks", True)
    with pytest.raises(OSError, match="no paper"):
        Metrics(tmp_path, "notebook,second")
    assert registered[0].state == "finished"


def test_all_are_those_that_are_installed(tmp_path: Path) -> None:
    assert tracker_names("all") == [str(one) for one in accelerate.tracking.get_available_trackers()]
    assert "tensorboard" in tracker_names("all")
    assert tracker_names("none") == []


@pytest.mark.parametrize(
    ("report_to", "error", "message"),
    [
        ("tensorbord", UnknownName, r"unknown tracker 'tensorbord'\. Did you mean 'tensorboard'\? Known: aim, all, .*none, .*wandb"),
        ("", UnknownName, "unknown tracker ''"),
        ("tensorboard,", UnknownName, "unknown tracker ''"),
        ("none,tensorboard", InvalidArgument, "'none' must stand alone"),
        ("tensorboard,all", InvalidArgument, "'all' must stand alone"),
    ],
)
def test_wrong_names_write_nothing(tmp_path: Path, report_to: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Metrics(tmp_path / "run", report_to)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "command"), [("wandb", "pip install 'wandb'"), ("comet_ml", "pip install 'comet-ml'"), ("aim", "pip install 'aim<4'")])
def test_a_tracker_that_is_not_installed_names_the_command(tmp_path: Path, name: str, command: str) -> None:
    if name in tracker_names("all"):
        pytest.skip(f"{name} is installed")
    with pytest.raises(MissingExtra, match=re.escape(command)):
        Metrics(tmp_path, f"tensorboard,{name}")


def test_nothing_heavy_is_imported_unless_asked_for(tmp_path: Path) -> None:
    code = f"""
import sys
from steptool_agents.runs.trackers import Metrics, read_metrics
read_metrics({str(tmp_path)!r})
assert "torch" not in sys.modules
with Metrics({str(tmp_path)!r}, "none") as metrics:
    metrics.log(0, {{"loss": 1.0}})
print([name for name in sys.modules if "tensorboard" in name or name.startswith("accelerate")])
"""
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.slow
def test_only_the_main_process_writes(tmp_path: Path) -> None:
    code = """
import sys
import torch.distributed as dist
from steptool_agents.runs.trackers import Metrics
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
with Metrics(f"{folder}/run{rank}") as metrics:
    metrics.log(0, {"loss": 1.0})
dist.barrier()
"""
    running = [subprocess.Popen([sys.executable, "-W", "ignore", "-c", code, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [one.wait(60) for one in running] == [0, 0]
    assert len([path for path in (tmp_path / "run0").iterdir() if path.is_file()]) == 2
    assert not (tmp_path / "run1").exists()
