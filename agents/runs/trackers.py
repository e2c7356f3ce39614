"""The metrics of a run, update by update: ``metrics.jsonl`` for programs, and the trackers of ``accelerate`` for people.

``report_to`` names them as in ``transformers`` and TRL: TensorBoard, Weights & Biases, Trackio, MLflow, Aim, Comet and all
others that ``accelerate`` knows or that are registered with it (``accelerate.tracking.register_tracker_class``).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import numbers
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from steptool_env.errors import EXTRAS, CheckpointError, DataError, InvalidArgument, MissingExtra, UnknownName
from steptool_env.files import parse_json, write_bytes
from steptool_env.sealed import digest_of, is_sealed, verified, write_seal

__all__ = ["METRICS_FILE", "Metrics", "read_metrics", "repair_metrics", "tracker_names"]

logger = logging.getLogger(__name__)
METRICS_FILE = "metrics.jsonl"
_PROJECT = "steptool"
_PACKAGES = {"aim": "aim<4", "comet_ml": "comet-ml"}
"""Tracker -> its pip requirement, where that differs from the tracker's name."""


class Metrics:
    """The log of one run; a context manager. Only the main process writes: in others nothing happens.

    Each ``log`` appends one JSON line, ``{"update": …, name: value, …}``, and flushes it, so that
    a killed process loses at most the line that it was writing, and a machine without power the last one. The lines are sealed:
    others that are lost, doubled or changed are noticed. NaN and infinity, which JSON lacks, are stored as null and read back as NaN, so
    that the log of a diverged run can still be read.

    A resumed run writes the updates from ``resume_at`` on again. Their old lines and TensorBoard events are dropped first,
    and so is a half-written last line. The other trackers cannot delete entries: there, a resumed run appears as another
    run of the same name, which begins at ``resume_at``.

    The files of TensorBoard, Aim, and Weights & Biases are in the run's folder itself. For trackers with projects, the project
    is ``steptool`` (or the value of ``WANDB_PROJECT``, ``TRACKIO_PROJECT``, ``MLFLOW_EXPERIMENT_NAME``), and the run is named
    after the folder.

    Args:
        folder: The run's folder; made if it does not exist.
        report_to: Names of trackers, separated by commas; ``"all"`` for all that are installed, ``"none"`` for none.
        resume_at: The first update that will be logged again; None for a new run.
        settings: The run's settings, logged by the trackers as its configuration: name -> number, string, bool or None;
            other values are written as strings.

    Raises:
        CheckpointError: The folder already holds metrics and ``resume_at`` is None, or its metrics are not those that were logged.
        DataError: A line other than the last is broken; the message says how to go on with the others.
        UnknownName: There is no such tracker.
        MissingExtra: A tracker's package is not installed.
        InvalidArgument: ``"none"`` or ``"all"`` is combined with other names.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        report_to: str = "tensorboard",
        *,
        resume_at: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        from ..parallel import processes  # imports torch, which reading metrics does without

        self.folder = Path(folder)
        path = self.folder / METRICS_FILE
        self._trackers: list[Any] = []
        self._main, self._closed = processes.is_main(), False
        names = tracker_names(report_to)
        if not self._main:
            return
        if resume_at is None and path.exists() and path.stat().st_size:
            raise CheckpointError(f"{path} already holds the metrics of a run; resume it or use another name")
        self.folder.mkdir(parents=True, exist_ok=True)
        content = b""
        if resume_at is not None and path.exists():
            records = _records(path)
            if faults := _gaps([record["update"] for _, record in records if record["update"] < resume_at], resume_at):
                logger.warning("%s %s: the run goes on without them, and its curve has a gap", path, faults)
            content = b"".join(line + b"\n" for line, record in records if record["update"] < resume_at)
            write_seal(path, digest_of(b"".join(line + b"\n" for line, _ in records)), digest_of(content))
            write_bytes(path, content)
        elif resume_at:
            logger.warning("%s is missing: the run goes on, and the metrics of its first %d updates are lost", path, resume_at)
        self._digest = hashlib.sha256(content)
        self._file = open(path, "ab")  # noqa: SIM115  # open as long as the log is
        try:
            for name in names:
                self._trackers.append(_start_tracker(name, self.folder, resume_at, _flat(settings or {})))
        except BaseException:
            self.close()
            raise

    def log(self, update: int, values: Mapping[str, float | int | str]) -> None:
        """Append one line, and pass its finite numbers to the trackers.

        Args:
            update: Number of the update, from 0; several lines may have the same one.
            values: Name -> number or string. The name ``"update"`` is reserved.

        Raises:
            InvalidArgument: A name or a value is of another type, or the log is closed; nothing is written.
        """
        if self._closed:
            raise InvalidArgument("this log is closed; log inside its with block")
        record: dict[str, Any] = {"update": _update(update)}
        for name, value in values.items():
            if not isinstance(name, str) or name == "update":
                raise InvalidArgument(f"a metric's name must be a string other than 'update', got {name!r}")
            record[name] = _plain(name, value)
        if not self._main:
            return
        line, before = json.dumps(record, allow_nan=False).encode("ascii") + b"\n", self._digest.hexdigest()
        self._digest.update(line)
        write_seal(self.folder / METRICS_FILE, before, self._digest.hexdigest())
        self._file.write(line)
        self._file.flush()
        numeric = {name: value for name, value in record.items() if name != "update" and isinstance(value, (int, float))}
        for tracker in self._trackers if numeric else []:
            tracker.log(numeric, step=record["update"])

    def close(self) -> None:
        """Close the file and the trackers; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if self._main:
            self._file.close()
        while self._trackers:
            self._trackers.pop().finish()

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def read_metrics(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the lines of a run's log as dicts; empty if nothing was logged.

    A last line that was being written when the process was killed is left out; null becomes NaN.

    Raises:
        DataError: Another line is broken; the message names file, line and fault.
    """
    path = Path(folder) / METRICS_FILE
    if not path.exists():
        return []
    return [{name: math.nan if value is None else value for name, value in record.items()} for _, record in _records(path)]


def _records(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """Return every complete line, with its record; the lines together are verified."""
    complete = _complete(path)
    records = []
    way_out = f"steptool train --resume --force --out {path.parent} goes on with the lines that can be read"
    for number, line in enumerate(complete.split(b"\n")[:-1], 1):
        try:
            record = parse_json(line)
        except ValueError as fault:
            raise DataError(path, number, f"not a JSON value: {fault}; {way_out}") from fault
        if not isinstance(record, dict) or type(record.get("update")) is not int:
            raise DataError(path, number, f"expected an object with an integer 'update', got {line[:80]!r}; {way_out}")
        records.append((line, record))
    verified(path, way_out, complete)
    return records


def _complete(path: Path) -> bytes:
    """Return the lines that end in a newline; what follows them was being written when the process was killed."""
    content = path.read_bytes()
    return content[: content.rfind(b"\n") + 1]


def _gaps(updates: list[int], until: int) -> str:
    """Return in words which of the updates before ``until`` have no line."""
    missing = sorted(set(range(until)) - set(updates))
    if not missing:
        return ""
    return f"lacks {len(missing)} of {until} updates, {missing[0]} first"


def repair_metrics(folder: Path) -> None:
    """Keep the lines of a damaged log that can be read, the first one of every update in ascending order, and seal them."""
    path = folder / METRICS_FILE
    if not path.is_file():
        return
    complete = _complete(path)
    if is_sealed(path, complete):
        return
    kept: dict[int, bytes] = {}
    for line in complete.split(b"\n")[:-1]:
        try:
            record = parse_json(line)
        except ValueError:
            continue
        if isinstance(record, dict) and type(update := record.get("update")) is int:
            kept.setdefault(update, line)
    content = b"".join(kept[update] + b"\n" for update in sorted(kept))
    logger.warning("%s is repaired: %d lines are kept", path, len(kept))
    write_seal(path, digest_of(complete), digest_of(content))
    write_bytes(path, content)


def _update(update: int) -> int:
    if isinstance(update, bool) or not isinstance(update, numbers.Integral) or update < 0:
        raise InvalidArgument(f"update must be an integer, 0 or more, got {update!r}")
    return int(update)


def _plain(name: str, value: Any) -> float | int | str | None:
    if isinstance(value, (str, bool)):
        return value
    if isinstance(value, numbers.Integral):  # numpy's integers too
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    raise InvalidArgument(f"metric {name!r} must be a number or a string, got {type(value).__name__}; call .item() on a tensor")


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as trackers take them: bool, int, finite float, string or None."""
    plain = (str, bool, int, type(None))
    return {name: value if isinstance(value, plain) or (isinstance(value, float) and math.isfinite(value)) else str(value) for name, value in settings.items()}


def tracker_names(report_to: str) -> list[str]:
    """Return the trackers that ``report_to`` asks for, each once, all of them installed; raises as ``Metrics`` does."""
    requested = list(dict.fromkeys(name.strip() for name in report_to.split(",")))
    if len(requested) > 1 and (exclusive := {"all", "none"} & set(requested)):
        raise InvalidArgument(f"report_to={report_to!r}: {min(exclusive)!r} must stand alone; leave it or the other names out")
    if requested == ["none"]:
        return []
    try:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
        from accelerate.utils import LoggerType
    except ImportError as fault:
        raise MissingExtra(f"report_to={report_to!r}", "accelerate", "pip install 'steptool-env[agents]'") from fault
    installed = [str(tracker) for tracker in get_available_trackers()]
    if requested == ["all"]:
        return installed
    builtin = {str(logger) for logger in LoggerType}
    for name in requested:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise UnknownName("tracker", name, [*LOGGER_TYPE_TO_CLASS, "all", "none"])
        if name in builtin and name not in installed:  # trackers that a user registered need no package
            package = f"steptool-env[{EXTRAS[name]}]" if name in EXTRAS else _PACKAGES.get(name, name)
            raise MissingExtra(f"report_to={name!r}", name, f"pip install '{package}'")
    return requested


def _start_tracker(name: str, folder: Path, resume_at: int | None, settings: dict[str, Any]) -> Any:
    """Return a started tracker of ``accelerate`` that has logged the settings."""
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState()  # the trackers ask it which process this is
    kind, run = LOGGER_TYPE_TO_CLASS[name], folder.resolve().name
    if name == "tensorboard":
        tracker = kind("", str(folder), purge_step=resume_at)  # "": in the folder itself, not in one below it
    elif kind.requires_logging_directory:
        tracker = kind(run, str(folder))
    else:
        project = os.environ.get({"wandb": "WANDB_PROJECT", "trackio": "TRACKIO_PROJECT"}.get(name, ""), _PROJECT)
        options = {"wandb": {"name": run, "dir": str(folder)}, "trackio": {"name": run}, "mlflow": {"run_name": run}, "swanlab": {"experiment_name": run}}
        tracker = kind(project, **options.get(name, {}))
    tracker.start()
    if settings and name == "tensorboard":
        _log_hparams(tracker.tracker, settings, resume_at)
    elif settings:
        tracker.store_init_configuration(settings)
    return tracker


def _log_hparams(writer: Any, settings: dict[str, Any], resume_at: int | None) -> None:
    """Write the settings into the run's own events.

    ``accelerate`` would write them to two further folders with a timestamp as name, which TensorBoard shows as further runs.
    """
    from torch.utils.tensorboard.summary import hparams

    if resume_at is None:  # purging drops only updates, so the settings are still there after resuming
        for summary in hparams(settings, {}):
            writer.file_writer.add_summary(summary)
