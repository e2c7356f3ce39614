"""What a run measured, update by update: ``metrics.jsonl`` for programs, TensorBoard events for eyes."""

from __future__ import annotations

import json
import math
import numbers
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from steptool_env.errors import CheckpointError, DataError, InvalidArgument, MissingExtra
from steptool_env.files import write_bytes

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["METRICS_FILE", "Metrics", "read_metrics"]

METRICS_FILE = "metrics.jsonl"


class Metrics:
    """The log of one run; a context manager.

    Each ``log`` appends one JSON line, ``{"update": …, name: value, …}``, that is on its way to the disk when the call
    returns, so that a killed process loses at most the line it was writing. NaN and infinity, which JSON does not know,
    are stored as null and read back as NaN: a diverged run can still be looked at.

    A run that resumes writes the updates from ``resume_at`` on again. Their old lines and events are dropped first, and
    so is a half-written last line.

    Args:
        folder: The run's folder; made if it does not exist.
        tensorboard: Also write TensorBoard events, into the same folder.
        resume_at: The first update that will be logged again; None for a new run.

    Raises:
        CheckpointError: The folder already holds metrics and ``resume_at`` is None.
        DataError: A line other than the last is broken.
        MissingExtra: ``tensorboard`` is wanted, but not installed.
    """

    def __init__(self, folder: str | os.PathLike[str], tensorboard: bool = True, *, resume_at: int | None = None) -> None:
        self.folder = Path(folder)
        path = self.folder / METRICS_FILE
        self._writer: SummaryWriter | None = None
        if resume_at is None and path.exists() and path.stat().st_size:
            raise CheckpointError(f"{path} already holds the metrics of a run; resume it or use another name")
        writer_class = _summary_writer() if tensorboard else None
        self.folder.mkdir(parents=True, exist_ok=True)
        if resume_at is not None and path.exists():
            kept = [line for line, record in _records(path) if record["update"] < resume_at]
            write_bytes(path, b"".join(line + b"\n" for line in kept))
        self._file = open(path, "ab")  # noqa: SIM115  # open as long as the log is
        if writer_class is not None:
            self._writer = writer_class(log_dir=str(self.folder), purge_step=resume_at)

    def log(self, update: int, values: Mapping[str, float | int | str]) -> None:
        """Append one line, and a TensorBoard scalar for every finite number in it.

        Args:
            update: Counted from 0; several lines may have the same one.
            values: Name -> number or string. ``"update"`` is taken.

        Raises:
            InvalidArgument: A name or a value of another kind, or a closed log; nothing is written.
        """
        if self._file.closed:
            raise InvalidArgument("this log is closed; log inside its with block")
        record: dict[str, Any] = {"update": _update(update)}
        for name, value in values.items():
            if not isinstance(name, str) or name == "update":
                raise InvalidArgument(f"a metric's name must be a string other than 'update', got {name!r}")
            record[name] = _plain(name, value)
        self._file.write(json.dumps(record, allow_nan=False).encode("ascii") + b"\n")
        self._file.flush()
        if self._writer is not None:
            for name, value in record.items():
                if name != "update" and isinstance(value, (int, float)):
                    self._writer.add_scalar(name, value, update)

    def close(self) -> None:
        """Close both files; safe to call twice."""
        self._file.close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def read_metrics(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the lines of a run's log as dicts; empty if nothing was logged.

    A last line that was being written when the process was killed is left out; null becomes NaN.

    Raises:
        DataError: Another line is broken; names file, line and fault.
    """
    path = Path(folder) / METRICS_FILE
    if not path.exists():
        return []
    return [{name: math.nan if value is None else value for name, value in record.items()} for _, record in _records(path)]


def _records(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """Every complete line, with what it says."""
    lines = path.read_bytes().split(b"\n")
    lines.pop()  # a complete line ends in a newline, so this is empty or half a line
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except ValueError as fault:
            raise DataError(path, number, f"not a JSON value: {fault}") from fault
        if not isinstance(record, dict) or type(record.get("update")) is not int:
            raise DataError(path, number, f"expected an object with an integer 'update', got {line[:80]!r}")
        records.append((line, record))
    return records


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


def _summary_writer() -> type[SummaryWriter]:
    try:
        from torch.utils.tensorboard import SummaryWriter  # slow to import, so only when wanted
    except ImportError as fault:
        raise MissingExtra("Metrics(tensorboard=True)", "tensorboard", "pip install tensorboard") from fault
    return SummaryWriter
