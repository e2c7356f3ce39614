from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from project import ROOT

from steptool_env.files import read_json, replacing, replacing_folder, write_bytes, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda path: write_bytes(path, b"\0\n"), b"\0\n"),
        (lambda path: write_text(path, "é\r\n\n"), b"\xc3\xa9\r\n\n"),
        (lambda path: write_text(str(path), ""), b""),
        (lambda path: write_json(path, {"a": [1, None]}), b'{\n  "a": [\n    1,\n    null\n  ]\n}'),
    ],
)
def test_a_file_is_written_and_nothing_is_left_beside_it(tmp_path: Path, write: Callable[[Path], None], expected: bytes) -> None:
    path = tmp_path / "a.b.json"
    for _ in range(2):  # a new one, and in place of one that is there
        write(path)
        assert path.read_bytes() == expected
        assert names(tmp_path) == ["a.b.json"]
        path.write_bytes(b"longer than all of them, and of no use to anyone")


def test_what_was_there_survives_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("before")
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(path, object())
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half of")
        assert path.read_text() == "before"
        raise KeyboardInterrupt
    with pytest.raises(FileNotFoundError), replacing(path):
        pass  # nothing was written
    assert path.read_text() == "before"
    assert names(tmp_path) == ["a.json"]


def test_a_folder_is_no_place_for_a_file(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    with pytest.raises(OSError):
        write_text(tmp_path / "here", "x")
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "missing" / "a", "x")
    assert names(tmp_path) == ["here"]


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "file")
    for text in ("one", "two"):
        write_text(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "far" / "file").read_text() == text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_a_pipe_is_written_as_it_is(tmp_path: Path) -> None:
    pipe, heard = tmp_path / "pipe", list[str]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: heard.append(pipe.read_text()), daemon=True)
    reader.start()
    write_text(pipe, "hello")
    reader.join(10)
    assert heard == ["hello"]
    assert pipe.is_fifo()


def test_threads_do_not_write_into_one_another(tmp_path: Path) -> None:
    path, meet = tmp_path / "a", threading.Barrier(2, timeout=10)
    seen = []

    def write(text: str) -> None:
        with replacing(path) as temporary:
            meet.wait()
            temporary.write_text(text)
            meet.wait()
            seen.append(temporary.read_text() == text)

    threads = [threading.Thread(target=write, args=(text,)) for text in ("one", "two")]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert seen == [True, True]
    assert names(tmp_path) == ["a"]


def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    program = (
        f"import os, sys; sys.path.insert(0, {str(ROOT)!r})\nfrom steptool_env.files import replacing, replacing_folder\nfrom pathlib import Path\n"
        f"here = Path({str(tmp_path)!r})\n"
        "with replacing(here / 'a') as one, replacing_folder(here / 'b') as two:\n    one.write_text('half'); (two / 'half').touch(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    left = names(tmp_path)
    assert len(left) == 2 and all(name.endswith(".tmp") for name in left)
    elsewhere = tmp_path / f".c.another-host.{os.getpid()}.1.tmp"
    elsewhere.touch()  # on a file system that hosts share: nobody here knows whether its process is alive
    (tmp_path / ".d.tmp").touch()  # not ours
    write_text(tmp_path / "new", "x")
    assert names(tmp_path) == [elsewhere.name, ".d.tmp", "new"]


def test_every_broken_json_is_a_value_error(tmp_path: Path) -> None:
    for data in (b"", b"[" * 100_000, b"1" * 5000, b"\xff", b"{", b'{"a": "\x00"}'):
        (tmp_path / "a").write_bytes(data)
        with pytest.raises(ValueError):
            read_json(tmp_path / "a")
    (tmp_path / "a").write_text('{"a": [1]}')
    assert read_json(tmp_path / "a") == {"a": [1]}


# ---------------------------------------------------------------- folders
def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "new" / "model"
    for name in ("first", "second"):
        with replacing_folder(target) as folder:
            (folder / name).write_text(name)
            assert not (target / name).exists()
        assert names(target) == [name]
    assert names(tmp_path / "new") == ["model"]


def test_a_folder_that_is_there_survives_a_failure(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for content in ("before", "half"):
        try:
            with replacing_folder(target) as folder:
                (folder / content).write_text(content)
                if content == "half":
                    raise RuntimeError("full")
        except RuntimeError:
            pass
    assert names(target) == ["before"]
    assert names(tmp_path) == ["model"]


def test_a_folder_that_cannot_be_put_there_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, rename = tmp_path / "model", os.rename
    with replacing_folder(target) as folder:
        (folder / "before").touch()

    def fails(source: Path, goal: Path) -> None:
        if source.name.endswith(".tmp"):
            raise OSError("no")
        rename(source, goal)

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(OSError, match="no"), replacing_folder(target) as folder:
        (folder / "after").touch()
    assert names(target) == ["before"]
    assert names(tmp_path) == ["model"]


def test_of_two_that_make_the_same_folder_the_first_one_wins(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with replacing_folder(target, keep=True) as slow:
        (slow / "slow").touch()
        with replacing_folder(tmp_path / "other", keep=True) as fast:
            (fast / "fast").touch()
        (tmp_path / "other").rename(target)
    assert names(target) == ["fast"]
    assert names(tmp_path) == ["model"]
    (tmp_path / "file").touch()
    with pytest.raises(OSError), replacing_folder(tmp_path / "file", keep=True):
        pass  # a file is in the way
