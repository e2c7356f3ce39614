"""Write files and folders atomically: after a kill or on a full disk, what was there before is still there.

New content is written beside its destination, under a name that no other process or thread uses, and then moved there in one step.
What a killed process left beside a destination is removed by the next one that writes into the folder.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["PathLike", "parse_json", "read_json", "replacing", "replacing_folder", "write_bytes", "write_json", "write_text"]

PathLike: TypeAlias = str | os.PathLike[str]

_HOST = re.sub(r"[^A-Za-z0-9-]", "-", platform.node()) or "unknown"
_LEFTOVER = re.compile(r"\..+\.(?P<host>[A-Za-z0-9-]+)\.(?P<process>\d+)\.(?P<thread>\d+)\.(?P<kind>tmp|old)")
_OLD = 24 * 3600.0
"""Seconds after which a leftover is removed even if its process may be alive: it was on another host, or its number was given again."""
_swept: set[Path] = set()
"""The folders that this process has looked through: once is enough, and a folder may hold many files."""


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text from a file or an option; however it is broken, the exception is a ValueError."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: PathLike) -> Any:
    """Return the value of a file of JSON.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not UTF-8, no JSON, nested too deeply, or has a number of thousands of digits.
    """
    return parse_json(Path(path).read_bytes())


def write_bytes(path: PathLike, data: bytes) -> None:
    """Write a file atomically; an existing one is replaced. Raises as ``replacing`` does."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: PathLike, text: str) -> None:
    """Write a file of UTF-8 text atomically; line ends stay as they are. Raises as ``replacing`` does."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: PathLike, value: Any) -> None:
    """Write a file of JSON atomically, indented for readers.

    Raises:
        TypeError, ValueError: The value cannot be written as JSON; the file stays as it was.
        OSError: As ``replacing`` does.
    """
    write_text(path, json.dumps(value, indent=2))


@contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """Give a path to write a file to, and move the file to ``path`` when the block has ended without an exception.

    A link stays, and the file that it leads to is replaced. Devices and pipes have no content to lose: they are written as
    they are.

    Args:
        path: Where the file will be; its folder must exist.

    Raises:
        OSError: The folder is missing or not writable, or the disk is full; what was at ``path`` is still there.
    """
    wanted = Path(path)
    if wanted.exists() and not wanted.is_file() and not wanted.is_dir():
        yield wanted
        return
    target = Path(os.path.realpath(wanted))
    _sweep(target.parent)
    temporary = _beside(target)
    try:
        yield temporary
        with open(temporary, "rb+") as file:  # a machine that loses power must not have the move without the content
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: PathLike, *, keep: bool = False) -> Iterator[Path]:
    """Give an empty folder to write into, and move it to ``path`` when the block has ended without an exception.

    Args:
        path: Where the folder will be; missing parents are created. An existing one is replaced.
        keep: Leave one that exists by then, because another process made the same and may have readers; what was written
            here is dropped.

    Raises:
        OSError: The folder cannot be written; what was at ``path`` is still there.
    """
    target = Path(path)
    temporary, old = _beside(target), _beside(target, ".old")
    _sweep(target.parent)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if keep:
            try:
                os.rename(temporary, target)
            except OSError:
                if not target.is_dir():
                    raise
            return
        if target.exists():
            os.rename(target, old)
        try:
            os.rename(temporary, target)
        except OSError:
            if old.exists():
                os.rename(old, target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _beside(path: Path, suffix: str = ".tmp") -> Path:
    return path.with_name(f".{path.name}.{_HOST}.{os.getpid()}.{threading.get_ident()}{suffix}")


def _sweep(folder: Path) -> None:
    """Remove what killed processes left in a folder; what a living one is writing stays."""
    if folder in _swept or not folder.is_dir():
        return
    _swept.add(folder)
    for path in folder.iterdir():
        found = _LEFTOVER.fullmatch(path.name)
        if found is None or _in_use(path, found["host"], int(found["process"]), int(found["thread"])):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _in_use(path: Path, host: str, process: int, thread: int) -> bool:
    try:
        if time.time() - path.lstat().st_mtime > _OLD:
            return False
    except OSError:  # its writer has just moved it
        return True
    if host != _HOST:
        return True
    if process == os.getpid():  # also the number of a process before this one: in a container they begin with 1 again
        return thread in {living.ident for living in threading.enumerate()}
    return _alive(process)


def _alive(process: int) -> bool:
    if os.name == "nt":  # there, signal 0 would end the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's
        return True
    return True
