"""Write files and folders atomically: after a kill or on a full disk, what was there before is still there.

New content is written beside its destination, under a name that no other process or thread uses, and then moved there in one step.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["PathLike", "replacing", "replacing_folder", "write_bytes", "write_json", "write_text"]

PathLike: TypeAlias = str | os.PathLike[str]


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
    for leftover in (temporary, old):  # of a process that was killed and had the same number
        shutil.rmtree(leftover, ignore_errors=True)
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
    return path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}{suffix}")
