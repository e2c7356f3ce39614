"""Seals: a file that is not what was written is refused, and a kill between its two writes makes no good file look damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from steptool_env.errors import CheckpointError
from steptool_env.sealed import digest_of, is_sealed, read_sealed, sealing, verified, write_seal


def write(path: Path, text: str) -> None:
    with sealing(path) as temporary:
        temporary.write_text(text)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text in ('{"a": 1}', '{"a": 2}'):
        write(path, text)
        assert verified(path, "run") == text.encode()
        assert is_sealed(path)
    assert read_sealed(path, "run") == {"a": 2}


@pytest.mark.parametrize("damage", [b"", b'{"a": 3}', b'{"a": 1}\n', b'{"a": 1'])
def test_anything_else_is_refused(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "a.json"
    write(path, '{"a": 1}')
    path.write_bytes(damage)
    for read in (verified, read_sealed):
        with pytest.raises(CheckpointError, match=r"a\.json is not what was written: .*; run it again \(if you changed it .*delete .*\.seals/a\.json\)"):
            read(path, "run it again")
    assert not is_sealed(path)


def test_a_kill_between_the_two_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write(path, '{"a": 1}')
    write_seal(path, digest_of(b'{"a": 1}'), digest_of(b'{"a": 2}'))  # and then the kill
    assert read_sealed(path, "run") == {"a": 1}
    write(path, '{"a": 3}')
    assert read_sealed(path, "run") == {"a": 3}


def test_a_file_without_a_seal_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}')
    assert read_sealed(path, "run") == {"a": 1}
    assert not is_sealed(path)
    for text in ("[1]", "{", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(CheckpointError, match=r"a\.json cannot be read: .*; run it again"):
            read_sealed(path, "run it again")
    path.unlink()
    with pytest.raises(CheckpointError, match=r"a\.json cannot be read: No such file or directory; run it again"):
        read_sealed(path, "run it again")
