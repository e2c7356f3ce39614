"""The log of a run: lines, resumption, and what a killed process leaves."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steptool_agents.runs.trackers import METRICS_FILE, Metrics, read_metrics
from steptool_env.errors import CheckpointError, DataError, InvalidArgument


def log(folder: Path, updates: range, *, tensorboard: bool = False, resume_at: int | None = None, tag: str = "first") -> None:
    with Metrics(folder, tensorboard, resume_at=resume_at) as metrics:
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
    with Metrics(tmp_path, tensorboard=False) as metrics:
        metrics.log(0, {"loss": 1.0})
        assert read_metrics(tmp_path) == [{"update": 0, "loss": 1.0}]


def test_several_lines_of_one_update_and_numpy_numbers(tmp_path: Path) -> None:
    with Metrics(tmp_path, tensorboard=False) as metrics:
        metrics.log(3, {"loss": np.float32(0.5), "count": np.int64(4), "done": True})
        metrics.log(3, {"success": 1})
    assert read_metrics(tmp_path) == [{"update": 3, "loss": 0.5, "count": 4, "done": True}, {"update": 3, "success": 1}]


def test_a_diverged_run_can_be_looked_at(tmp_path: Path) -> None:
    with Metrics(tmp_path, tensorboard=False) as metrics:
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
        Metrics(tmp_path, tensorboard=False)
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
        Metrics(tmp_path, tensorboard=False, resume_at=1)
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
    with Metrics(tmp_path, tensorboard=False) as metrics:
        with pytest.raises(InvalidArgument, match=message):
            metrics.log(update, values)
        assert read_metrics(tmp_path) == []


def test_a_closed_log_says_so(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, tensorboard=False)
    metrics.close()
    metrics.close()
    with pytest.raises(InvalidArgument, match="closed"):
        metrics.log(0, {})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorboard's own
def test_tensorboard_shows_the_last_word_on_every_update(tmp_path: Path) -> None:
    log(tmp_path, range(4), tensorboard=True)
    with Metrics(tmp_path, resume_at=2) as metrics:
        for update in (2, 3):
            metrics.log(update, {"loss": 10.0 + update, "kl": math.nan})
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator(str(tmp_path))
    accumulator.Reload()
    curves: dict[str, dict[int, float]] = defaultdict(dict)
    for tag in accumulator.Tags()["scalars"]:
        events = accumulator.Scalars(tag)
        assert len({event.step for event in events}) == len(events), "an update from before the resumption is still there"
        curves[tag] = {event.step: event.value for event in events}
    assert curves["loss"] == {0: 0.0, 1: 0.5, 2: 12.0, 3: 13.0}
    assert "phase" not in curves and "kl" not in curves
