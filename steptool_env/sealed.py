"""Files that are verified when they are read back: beside each lies a seal, the SHA-256 of what was written.

    runs/<name>/config.json
                .seals/config.json      one SHA-256, or two: of the content before the last write, and after it

The seal is written first and allows both contents, so that a kill between the two writes never makes a good file look damaged. A file
without a seal was put there by a person, and is taken as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import CheckpointError
from .files import parse_json, replacing, write_text

__all__ = ["digest_of", "is_sealed", "read_sealed", "sealing", "verified", "write_seal"]


@contextmanager
def sealing(path: Path) -> Iterator[Path]:
    """Give a path to write a file to; when the block has ended, seal the file and move it to ``path``. Raises as ``replacing`` does."""
    with replacing(path) as temporary:
        yield temporary
        before = [digest_of(path.read_bytes())] if path.is_file() else []
        write_seal(path, *before, digest_of(temporary.read_bytes()))


def digest_of(data: bytes) -> str:
    """Return the SHA-256 of a file's content."""
    return hashlib.sha256(data).hexdigest()


def write_seal(path: Path, *digests: str) -> None:
    """Write the seal of a file: the contents that it may have from now on."""
    seal = _seal(path)
    seal.parent.mkdir(exist_ok=True)
    write_text(seal, "".join(f"{digest}\n" for digest in dict.fromkeys(digests)))


def is_sealed(path: Path, data: bytes | None = None) -> bool:
    """Return whether a file has a seal and is what it says.

    Args:
        path: The file.
        data: Its content, if it has been read already.
    """
    seal = _seal(path)
    return seal.is_file() and digest_of(path.read_bytes() if data is None else data) in seal.read_text(encoding="ascii", errors="replace").split()


def verified(path: Path, way_out: str, data: bytes | None = None) -> bytes:
    """Return the content of a file that is what was written, or has no seal.

    Args:
        path: The file.
        way_out: What to do if it is not: the end of the error's sentence.
        data: Its content, if it has been read already.

    Raises:
        CheckpointError: The content is another one.
        OSError: The file cannot be read.
    """
    content = path.read_bytes() if data is None else data
    if _seal(path).exists() and not is_sealed(path, content):
        fault = f"{path} is not what was written: it is damaged, was edited, or is that of another run"
        raise CheckpointError(f"{fault}; {way_out} (if you changed it on purpose, delete {_seal(path)})")
    return content


def read_sealed(path: Path, way_out: str) -> dict[str, Any]:
    """Return the object in a file of JSON, verified.

    Raises:
        CheckpointError: The file is missing, is not what was written, or holds no JSON object.
    """
    try:
        record = parse_json(verified(path, way_out))
    except (OSError, ValueError) as fault:
        raise CheckpointError(f"{path} cannot be read: {getattr(fault, 'strerror', None) or fault}; {way_out}") from fault
    if not isinstance(record, dict):
        raise CheckpointError(f"{path} cannot be read: expected an object, got {type(record).__name__}; {way_out}")
    return record


def _seal(path: Path) -> Path:
    return path.parent / ".seals" / path.name
