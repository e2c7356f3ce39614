"""Whatever lies in the files that a command reads, and whatever its options say, it ends well or with one sentence."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import steptool
from episodes import episode
from lms import TINY  # noqa: F401  # sets one thread
from project import ROOT

from steptool_agents.algorithms.step_ppo import train
from steptool_agents.config import Config
from steptool_agents.experiments.grid import METHODS, Spec, cell_folder, evaluations
from steptool_agents.show.terminal import sentence
from steptool_agents.trajectory import write_jsonl
from steptool_env.files import write_json
from steptool_env.sealed import sealing
from steptool_env.tasks.worlds import Worlds

HUGE = "1" + "0" * 400
CONFIG = Config.of(suite_options={"level": 1}, demos=8, demo_batch=4, updates=1, episodes=4, eval_episodes=2, max_steps=3, report_to="none")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: steptool(*map(str, arguments), capsys=capsys, monkeypatch=monkeypatch)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("damage") / "run"
    train(CONFIG, out)
    return out


def one_sentence(found: tuple[int, str, str], words: str = "") -> None:
    code, _, err = found
    assert code == 2, found
    assert len(err.splitlines()) == 1 and err.startswith("steptool: "), err
    assert words in err
    assert err.rstrip("\n").isprintable(), err


def damages(good: bytes, count: int, seed: int) -> list[bytes]:
    """Return a file damaged in many ways: cut, emptied, doubled, with flipped bits, replaced values, deep and huge ones."""
    rng = random.Random(seed)
    made = [b"", b"\0" * len(good), good[: len(good) // 2], good[:-1], good + good, b"\xff\xfe", b"null", b"[]", b"{}", b"5\n"]
    made += [b"[" * 100_000, b'{"a":' * 100_000]
    made += [good.replace(b": 1", b": " + HUGE.encode(), 1), good.replace(b":1", b":" + HUGE.encode(), 1), good.replace(b"1", b"1" * 5000, 1)]
    made += [good.replace(b"{", b'{"x": ' + b"[" * 900 + b"]" * 900 + b", ", 1), good.replace(b'"', b"\x1b", 1), good.replace(b"e", "\u202e".encode())]
    for _ in range(count):
        flipped = bytearray(good)
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        made.append(bytes(flipped))
    return [one for one in made if one != good]


# ---------------------------------------------------------------- files, one by one
@pytest.mark.slow
def test_a_file_of_trajectories(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    suite = Worlds(level=1, split="test")
    write_jsonl(file, [episode(suite[k], ("", 0.0, 0.5), solved=1.0) for k in range(2)])
    good = file.read_bytes()
    ways = ([], ["--json"], ["--episode", "0"], ["--html", "page.html", "--force"])
    for number, damage in enumerate(damages(good, 40, seed=0)):
        file.write_bytes(damage)
        for options in (ways[number % 2], ways[2 + number % 2]):
            found = run("view", file, *options)
            if found[0]:
                one_sentence(found)
            assert "\x1b" not in found[1] and "\u202e" not in found[1]


@pytest.mark.parametrize("name", ["config.json", "report.json", "trajectories.jsonl", "before.jsonl", "metrics.jsonl", "warm_start.safetensors"])
def test_a_file_of_a_run_is_noticed(run: Any, trained: Path, tmp_path: Path, name: str) -> None:
    """Every one of these damages: the settings and the results are sealed, so that none is taken for the original."""
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    good = (copy / name).read_bytes()
    for damage in damages(good, 4, seed=1)[::3]:
        if name == "metrics.jsonl" and b"\n" not in damage:
            continue  # as a kill leaves it: the last line is lost, which is said
        (copy / name).write_bytes(damage)
        if name == "trajectories.jsonl":
            one_sentence(run("view", copy), "delete it")
        if name != "warm_start.safetensors":
            one_sentence(run("report", copy), name)
        if name != "trajectories.jsonl" or damage[:1] == b"{":
            one_sentence(run("train", "--resume", "--out", copy, "--set", "report_to=none"), name)
        if name == "config.json":
            one_sentence(run("eval", "--run", copy), name)
            one_sentence(run("train", "--from", copy, "--out", tmp_path / "new"), name)


@pytest.mark.slow
def test_a_grid(run: Any, tmp_path: Path) -> None:
    spec = Spec(methods={"SFT": METHODS["SFT"]}, settings={"suite_options": {"level": 1}}, splits={"held-out": {}}, searches=["greedy"], faults=[], tasks=2)
    out = tmp_path / "grid"
    (out / "cells").mkdir(parents=True)
    folder = cell_folder(out, "SFT", 0)
    (evaluation,) = evaluations(spec, folder)
    for parent in (folder / "run", evaluation.folder):
        parent.mkdir(parents=True)
    suite = Worlds(level=1, split="test")
    records: dict[Path, Any] = {
        out / "spec.json": spec.__dict__,
        folder / "run" / "report.json": {"seconds": 1, "env_steps": 1, "model_tokens": 1},
        evaluation.costs: {"calls": 1, "env_steps": 1, "tokens": 1, "seconds": 1},
    }
    for path, record in records.items():
        with sealing(path) as temporary:
            write_json(temporary, record)
    with sealing(evaluation.episodes) as temporary:
        write_jsonl(temporary, [episode(suite[k], ("", 0.0, 0.5), solved=1.0) for k in (0, 5000)])
    assert run("table", "--from", out)[0] == 0
    assert run("table", "--from", out)[0] == 0, "its own tables are replaced"
    for path in (*records, evaluation.episodes):
        good, seal = path.read_bytes(), path.parent / ".seals" / path.name
        for number, damage in enumerate(damages(good, 3, seed=2)[::2]):
            path.write_bytes(damage)
            one_sentence(run("table", "--from", out), path.name)
            if number % 3 == 0:  # and without a seal it is no traceback either
                kept = seal.read_bytes()
                seal.unlink()
                if (found := run("table", "--from", out))[0]:
                    one_sentence(found)
                seal.write_bytes(kept)
        path.write_bytes(good)
    (out / "table.md").write_text("my notes")
    one_sentence(run("table", "--from", out), "table.md is not what this command wrote, and would be overwritten")
    assert run("table", "--from", out, "--force")[0] == 0


@pytest.mark.parametrize("kind", ["json", "yaml"])
def test_a_file_of_settings(run: Any, tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"settings.{kind}"
    good = json.dumps({"updates": 1, "run": {"seed": 3}, "suite_options": {"level": 1, "size": 10}, "demos": 0, "lr": 1e-3}).encode()
    bombs = [f"seed: {HUGE}", "x: &a [*a]", "&a x: [*a, *a]", "? [1]\n: 2", "task: {suite_options: {day: 2020-01-01}}", "a: !!python/object:os.system x"]
    for damage in [*damages(good, 15, seed=3), *(bomb.encode() for bomb in bombs), HUGE.encode()]:
        file.write_bytes(damage)
        found = run("train", "--config", file, "--out", tmp_path / "run", "--suite", "wrlds")  # it never gets as far as training
        one_sentence(found)
        assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- options
OPTIONS: list[list[str]] = [
    *(["train", "--set", f"{name}={value}"] for name in ("seed", "updates", "episodes", "lr", "eval_episodes", "max_steps") for value in (HUGE, "1" * 5000)),
    *(["train", "--set", value] for value in ("seed=18446744073709551616", "seed=-1", "lr=NaN", "lr=1e999", "suite_options=[[[1]]]", "x." * 3000 + "y=1")),
    ["train", "--set", "suite_options=" + "[" * 100_000],
    ["train", "--set", "suite_options=" + "[" * 900 + "]" * 900],
    ["train", "--set", "max_new_tokens=2048"],
    ["train", "--option", f"size={HUGE}"],
    ["train", "--algo", "no/such/file.py"],
    ["train", "--algo", "[/]"],
    ["train", "--model", "."],
    ["eval", "--policy", "oracle", "--option", f"size={HUGE}"],
    ["eval", "--policy", "oracle", "--option", f"depth=[1,{HUGE}]"],
    ["eval", "--run", "\x1b[2J\u202e"],
    ["eval", "--policy", "\x1b[2J\u202e\x9b"],
    ["eval", "--policy", "oracle", "--episodes", "1", "--out", "/dev/full"],
    ["eval", "--policy", "oracle", "--episodes", "1", "--out", "/proc/nowhere/x.jsonl"],
    ["play", "--task", "9" * 5000],
    ["play", "--task", "\x1b[/]"],
    ["view", "/dev/null"],
    ["view", "."],
    ["table", "--settings", "."],
    ["table", "--from", "/dev/null"],
    ["demonstrations", "--out", ".", "--count", "1"],
]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("number", range(len(OPTIONS)))
def test_an_option(run: Any, tmp_path: Path, number: int) -> None:
    (tmp_path / "empty").mkdir()
    line = OPTIONS[number]
    one_sentence(run(*line, *(["--out", "run"] if line[0] == "train" else [])))
    assert not list(tmp_path.glob("run/*"))


@pytest.mark.parametrize("command", ["eval", "play", "audit", "demonstrations"])
def test_a_seed_beyond_64_bits(run: Any, command: str) -> None:
    code, _, err = run(command, *(["--out", "x"] if command == "demonstrations" else []), "--seed", 2**64)
    assert code == 2
    assert "9223372036854775807" in err and "Traceback" not in err


# ---------------------------------------------------------------- nothing is overwritten unasked
def test_targets(run: Any, tmp_path: Path) -> None:
    commands: list[tuple[str, list[str]]] = [
        ("e.jsonl", ["eval", "--policy", "oracle", "--episodes", "1", "--out", "e.jsonl"]),
        ("d.jsonl", ["demonstrations", "--count", "1", "--out", "d.jsonl"]),
        ("p.html", ["view", "e.jsonl", "--html", "p.html"]),
    ]
    for name, command in commands:
        assert run(*command)[0] == 0
        (tmp_path / name).write_text("my notes") if name != "e.jsonl" else None
        before = (tmp_path / name).read_bytes()
        one_sentence(run(*command), f"'{name}' exists; name another file, or use --force to replace it")
        assert (tmp_path / name).read_bytes() == before
        assert run(*command, "--force")[0] == 0
        assert (tmp_path / name).read_bytes() != b"my notes"
    one_sentence(run("view", "e.jsonl", "--html", "./e.jsonl", "--force"), "would overwrite the file that is read")


def test_results_of_another_program_in_the_folder_of_a_new_run(run: Any, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("report.json", "trajectories.jsonl"):
        (tmp_path / "run" / name).write_text("mine")
    settings = [part for setting in ("demos=0", "updates=0", "eval_episodes=1", "max_steps=3", "report_to=none") for part in ("--set", setting)]
    one_sentence(run("train", "--out", "run", *settings), "report.json is not what this run wrote, and would be overwritten")
    assert (tmp_path / "run" / "report.json").read_text() == "mine"
    assert run("train", "--out", "run", *settings, "--force")[0] == 0
    assert json.loads((tmp_path / "run" / "report.json").read_text())["updates"] == 0


# ---------------------------------------------------------------- disks and folders
def limited(*arguments: str, limit: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command in a process whose files cannot grow beyond ``limit`` bytes, as on a full disk."""
    program = (
        f"import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); sys.path.insert(0, {str(ROOT)!r})\n"
        f"sys.argv = ['steptool', *{arguments!r}]; from steptool_agents.cli import main; main()"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.skipif(os.name == "nt", reason="needs limits of processes")
def test_a_full_disk(tmp_path: Path) -> None:
    settings = [part for setting in ("demos=0", "updates=1", "episodes=2", "eval_episodes=1", "max_steps=3", "report_to=none") for part in ("--set", setting)]
    for arguments, limit in ((["demonstrations", "--count", "50", "--out", "d.jsonl"], 4096), (["train", "--out", "run", *settings], 100_000)):
        done = limited(*arguments, limit=limit, folder=tmp_path)
        assert done.returncode == 2, done.stderr
        assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("steptool: "), done.stderr
        assert "large" in done.stderr, done.stderr
    assert not (tmp_path / "d.jsonl").exists()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.json", ".seals"}, "no half of a file, and no lock"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    program = "import sys; sys.argv = ['steptool', 'suites', '--json']; from steptool_agents.cli import main; main()"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "steptool: No space left on device; free some space, then go on: what was complete before is still there\n")


def test_a_current_folder_that_was_deleted(run: Any, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    try:
        one_sentence(run("suites"), "No such file or directory")
    finally:
        os.chdir(tmp_path)


# ---------------------------------------------------------------- the terminal
def test_nothing_from_a_file_controls_the_terminal(run: Any, tmp_path: Path) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp\u2066\x7f[bold]"
    file = tmp_path / "t.jsonl"
    task = Worlds(level=1, split="test")[0]
    whole = episode(task, ("", 0.0, 0.5), solved=1.0)
    write_jsonl(file, [whole])
    record = json.loads(file.read_text(encoding="utf-8"))
    record["task"] |= {"id": evil, "instruction": evil, "tags": {evil: evil, "depth": 1}}
    for step in record["steps"]:
        step |= {"text": evil, "parts": {evil: 1.0}}
        step["result"]["content"] = evil
    file.write_text(json.dumps(record) + "\n", encoding="utf-8")
    for options in ([], ["--episode", "0", "--full"], ["--json"], ["--tag", "x=1"], ["--task", "x"], ["--html", "p.html"]):
        _, out, err = run("view", file, *options)
        assert not set(out + err) & set(evil) - set(printable_part(evil)), options
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert not set(page) & set(evil) - set(printable_part(evil))
    assert sentence("a\n" + evil).isprintable()


def printable_part(text: str) -> str:
    return "".join(char for char in text if char.isprintable())
