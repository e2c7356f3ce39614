"""The command line: what it prints, what it says about mistakes, and what it does not import."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from functools import partial
from operator import truediv
from pathlib import Path
from typing import Any

import pytest
from command import steptool
from project import ROOT
from servers import Reply, Request, oracle_chat, serving

import steptool_env
from steptool_agents import cli
from steptool_agents.trajectory import read_jsonl

SMALL = {"demos": 8, "demo_batch": 4, "episodes": 4, "eval_episodes": 4, "eval_width": 3, "max_new_tokens": 12, "max_steps": 3, "epochs": 1}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.chdir(tmp_path)  # a run goes into runs/ of the current folder unless told otherwise
    return lambda *arguments: steptool(*map(str, arguments), capsys=capsys, monkeypatch=monkeypatch)


def small(out: Path, *more: str) -> list[str]:
    settings = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
    return ["train", "--out", str(out), "--level", "1", "--updates", "1", *settings, *more]


# ---------------------------------------------------------------- what works
def test_help(run: Any) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert all(command in out for command in ("train", "eval", "suites"))


@pytest.mark.parametrize("command", ["train", "eval", "export", "suites", "table", "view"])
def test_help_for_a_command(run: Any, command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    assert "--json" in out


def test_plays_of_the_same_task_and_tools_that_fail(run: Any) -> None:
    code, out, _ = run("eval", "--policy", "oracle", "--level", "1", "--episodes", "5", "--samples", "2", "--faults", "0.4", "--json")
    found = json.loads(out)
    assert (code, found["suite"], found["episodes"]) == (0, "worlds", 10)
    assert sum(found["faults"].values()) > 0
    assert found["pass^k"]["2"] <= found["pass@k"]["1"] <= found["pass@k"]["2"]


def test_a_model_samples_what_it_plays_more_than_once(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "played" / "episodes.jsonl"
    options = ("--model", "tiny", "--level", 1, "--episodes", 3, "--samples", 4)
    code, out, err = run("eval", *options, "--out", file)
    assert (code, err) == (0, "")
    assert "pass@k: 1:" in out
    assert "steptool view" in out
    played = read_jsonl(file)
    assert len(played) == 12
    texts = [[step.generation.text for step in one.steps] for one in played if one.task.id == played[0].task.id]
    assert len(texts) == 4
    assert any(one != texts[0] for one in texts), "greedy play would be the same every time"
    code, again, _ = run("eval", *options, "--json")
    found = json.loads(again)
    assert (code, found["episodes"], found["success"]) == (0, 12, sum(one.success for one in played) / 12)
    code, out, _ = run("view", file, "--json")
    assert (code, json.loads(out)["summary"]["episodes"]) == (0, 12)


def test_suites(run: Any) -> None:
    code, out, _ = run("suites", "--json")
    assert code == 0
    by_name = {one["suite"]: one for one in json.loads(out)}
    assert by_name["worlds"]["tasks"] == 10_000
    assert by_name["worlds"]["solution"] is True
    code, out, _ = run("suites")
    assert (code, "worlds" in out) == (0, True)


def test_the_oracle(run: Any) -> None:
    code, out, err = run("eval", "--policy", "oracle", "--episodes", 6, "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert (report["suite"], report["split"], report["episodes"], report["success"]) == ("worlds", "test", 6, 1.0)


def test_random_play(run: Any) -> None:
    code, out, _ = run("eval", "--policy", "random", "--episodes", 6)
    assert code == 0
    assert "6 held-out tasks" in out
    _, first, _ = run("eval", "--policy", "random", "--episodes", 6, "--json", "--seed", 3)
    _, again, _ = run("eval", "--policy", "random", "--episodes", 6, "--json", "--seed", 3)
    assert json.loads(first) == json.loads(again)


def test_which_tasks(run: Any) -> None:
    options = ("--level", 3, "--split", "all", "--option", "depth=[3,3]", "--option", "size=50")
    code, out, _ = run("eval", "--policy", "oracle", "--episodes", 4, *options, "--json")
    assert code == 0
    report = json.loads(out)
    assert (report["split"], report["options"]) == ("all", {"level": 3, "depth": [3, 3], "size": 50})
    assert report["by_tag"]["depth=3"] == {"episodes": 4, "success": 1.0}


def test_training_resuming_and_evaluating(run: Any, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, text, err = run(*small(out, "--json"))
    assert (code, err) == (0, "")
    report = json.loads(text)
    assert (report["updates"], report["run"], report["after"]["episodes"]) == (1, str(out), 4)
    config = json.loads((out / "config.json").read_text())
    assert {name: value for part in config.values() if isinstance(part, dict) for name, value in part.items() if name in SMALL} == SMALL
    assert config["task"]["suite_options"]["level"] == 1
    assert "depth" not in config["task"]["suite_options"]  # that of the default level does not stay behind

    code, text, err = run(*small(out))
    assert code == 2
    assert "--resume" in err

    code, text, _ = run("train", "--out", out, "--resume", "--updates", 2)
    assert code == 0
    assert "2 updates in" in text
    assert "plays worlds, level 1, families lookup, change (2 of 13), domains shop, travel, clinic (3 of 10)" in text
    assert "after RL" in text

    code, text, _ = run("eval", "--run", out, "--episodes", 4, "--json")
    assert code == 0
    evaluated = json.loads(text)
    after = json.loads((out / "report.json").read_text())["after"]
    assert evaluated["options"]["level"] == 1
    assert {name: evaluated[name] for name in after} == after  # the same tasks, the same weights, greedy


def test_what_a_resumed_run_may_change(run: Any, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(*small(out))[0] == 0
    before = (out / "config.json").read_bytes()
    code, _, err = run("train", "--out", out, "--resume", "--shaper", "potential", "--set", "lr=0.5", "--updates", 2)
    assert code == 2
    assert "task.shaper is 'steptool' and cannot become 'potential'" in err
    assert "learning.lr is 0.0003 and cannot become 0.5" in err
    assert "steptool train --from" in err
    assert (out / "config.json").read_bytes() == before
    code, _, _ = run("train", "--out", out, "--resume", "--shaper", "steptool", "--set", "eval_episodes=2")
    assert code == 0, "the same value again is no change, and how much is evaluated may change"
    assert json.loads((out / "config.json").read_text())["run"]["eval_episodes"] == 2


@pytest.mark.slow
def test_a_run_that_begins_from_another(run: Any, tmp_path: Path) -> None:
    first, then = tmp_path / "first", tmp_path / "then"
    assert run(*small(first))[0] == 0
    code, out, _ = run("train", "--from", first, "--out", then, "--shaper", "potential", "--json")
    assert code == 0
    report, earlier = json.loads(out), json.loads((first / "report.json").read_text())
    assert report["before"] == earlier["after"] | {"reward": report["before"]["reward"]}, "it begins with what the other one learnt; the shaper is another"
    settings = json.loads((then / "config.json").read_text())
    assert settings["task"]["shaper"] == "potential"
    assert settings["rollout"]["episodes"] == SMALL["episodes"], "settings that are not given are those of the other run"
    assert run("train", "--from", first, "--out", then)[0] == 2
    assert run("train", "--from", first, "--out", then, "--resume")[0] == 2


@pytest.mark.parametrize("kind", ["json", "yaml"])
def test_settings_from_a_file(run: Any, tmp_path: Path, kind: str) -> None:
    file, out = tmp_path / f"settings.{kind}", tmp_path / "run"
    wanted = {"run": {"updates": 0, "eval_episodes": 2}, "learning": {"lr": 0.5}, "demos": 0, "suite_options.level": 1}
    lines = "run: {updates: 0, eval_episodes: 2}\nlearning:\n  lr: 0.5\ndemos: 0\nsuite_options.level: 1\n"
    file.write_text(json.dumps(wanted) if kind == "json" else lines)
    code, text, _ = run("train", "--config", file, "--out", out, "--set", "learning.lr=0.25")
    assert code == 0
    assert any(line.startswith(f"file {file}: ") and "eval_episodes=2" in line for line in text.splitlines())
    assert "--set: lr=0.25" in text
    settings = json.loads((out / "config.json").read_text())
    assert (settings["learning"]["lr"], settings["run"]["updates"], settings["task"]["suite_options"]["level"]) == (0.25, 0, 1)
    code, _, err = run("train", "--config", out / "config.json", "--out", tmp_path / "again")
    assert (code, err) == (0, ""), "the settings of a run are such a file"
    for content in ("[1]", "{", "5"):
        file.write_text(content)
        code, _, err = run("train", "--config", file, "--out", tmp_path / "none")
        assert (code, "is no file of settings" in err) == (2, True)
    assert "cannot be read" in run("train", "--config", tmp_path / "none.json")[2]


def test_the_version(run: Any) -> None:
    code, out, _ = run("--version")
    assert (code, out) == (0, f"steptool {steptool_env.__version__}\n")


def test_a_run_of_an_earlier_version(run: Any, tmp_path: Path) -> None:
    old = {"algo": "step-ppo", "model": "tiny", "suite": "worlds", "suite_options": {"level": 1}, "updates": 3, "lr": 0.001}
    (tmp_path / "config.json").write_text(json.dumps(old))
    for line in (("train", "--resume", "--out", tmp_path), ("eval", "--run", tmp_path)):
        code, _, err = run(*line)
        assert (code, len(err.splitlines())) == (2, 1)
        assert "made by an earlier version" in err and "--config" in err
    code, _, err = run(
        "train", "--config", tmp_path / "config.json", "--out", tmp_path / "new", "--set", "demos=0", "--set", "updates=0", "--set", "eval_episodes=1"
    )
    assert (code, err) == (0, "")
    settings = json.loads((tmp_path / "new" / "config.json").read_text())
    assert (settings["model"]["name"], settings["learning"]["lr"], settings["task"]["suite_options"]) == ("tiny", 0.001, {"level": 1})


def test_a_model_on_a_server_that_goes_away(run: Any) -> None:
    pytest.importorskip("httpx2")
    asked, oracle = [0], oracle_chat()

    def reply(request: Request) -> Reply:
        asked[0] += 1
        return oracle(request) if asked[0] <= 4 else (400, {}, "gone")  # a status that is not asked again

    with serving(reply) as here:
        line = ("eval", "--server", f"http://{here}/v1", "--model", "m", "--suite", "jsonl", "--split", "all", "--episodes", 4)
        code, out, err = run(*line, "--json")
        assert (code, err) == (0, "")
        found = json.loads(out)
        assert (found["episodes"], found["masked"], found["success"]) == (4, 4, 0.0)
        code, out, _ = run(*line)
        assert code == 0
        assert re.search(r"masked\) +│ +4 ", out)
    with serving(oracle_chat("hermes")) as here:
        code, out, _ = run(*line[:2], f"http://{here}/v1", *line[3:], "--call-format", "hermes", "--json")
        assert (code, json.loads(out)["success"], json.loads(out)["masked"]) == (0, 1.0, 0)
    assert run("eval", "--server", "http://127.0.0.1:9/v1", "--policy", "oracle")[0] == 2


def test_an_untrained_model(run: Any) -> None:
    code, out, _ = run("eval", "--model", "tiny", "--episodes", 2, "--level", 1, "--json")
    assert code == 0
    assert json.loads(out)["episodes"] == 2


# ---------------------------------------------------------------- mistakes
MISTAKES = {
    "an unknown split": (("eval", "--policy", "oracle", "--split", "tset"), ("'tset'", "Did you mean 'test'?", "domains")),
    "suite": (["eval", "--policy", "oracle", "--suite", "wrlds"], ["unknown suite 'wrlds'", "worlds", "bfcl"]),
    "level": (["eval", "--policy", "oracle", "--level", "9"], ["level", "9", "1, 2, 3, 4, 5"]),
    "option": (["eval", "--policy", "oracle", "--option", "dpth=[1,2]"], ["dpth", "depth"]),
    "option without value": (["eval", "--policy", "oracle", "--option", "depth"], ["--option takes NAME=VALUE, got 'depth'"]),
    "policy": (["eval", "--policy", "orcale"], ["unknown policy 'orcale'", "oracle", "random"]),
    "model to evaluate": (["eval", "--model", "tinny"], ["unknown model 'tinny'", "tiny", "smollm2"]),
    "nobody": (["eval"], ["exactly one of --run FOLDER, --policy oracle|random, --model NAME"]),
    "two": (["eval", "--policy", "oracle", "--model", "tiny"], ["exactly one of"]),
    "run to export": (["export", "no/such/folder", "--to", "exported"], ["holds no run"]),
    "no run": (["eval", "--run", "no/such/folder"], ["holds no run"]),
    "suite to train on": (["train", "--suite", "wrlds"], ["unknown suite 'wrlds'", "worlds"]),
    "level to train on": (["train", "--level", "9"], ["level", "9", "1, 2, 3, 4, 5"]),
    "algorithm": (["train", "--algo", "step-pop"], ["unknown algorithm 'step-pop'", "step-ppo", "sft"]),
    "shaper": (["train", "--shaper", "fnal"], ["unknown", "'fnal'", "final", "steptool"]),
    "call format": (["train", "--call-format", "hermess"], ["'hermess'", "hermes", "react"]),
    "model": (["train", "--model", "tinny"], ["unknown model 'tinny'", "tiny", "smollm2"]),
    "setting": (["train", "--set", "learning_rate=1"], ["unknown setting 'learning_rate'", "lr"]),
    "setting of another type": (["train", "--set", "updates=ten"], ["run.updates must be a valid integer, got 'ten'"]),
    "setting out of range": (["train", "--set", "gamma=2"], ["learning.gamma must be less than or equal to 1, got 2"]),
    "setting without value": (["train", "--set", "lr"], ["--set takes NAME=VALUE, got 'lr'"]),
    "shaper by setting": (["train", "--set", "shaper=fnal"], ["'fnal'", "final", "steptool"]),
    "suite by setting": (["train", "--set", "suite=wrlds"], ["unknown suite 'wrlds'"]),
    "algorithm by setting": (["train", "--set", "algo=ppo"], ["unknown algorithm 'ppo'", "step-ppo"]),
    "nothing to resume": (["train", "--resume"], ["holds no run"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_that_says_what_exists(run: Any, tmp_path: Path, mistake: str) -> None:
    arguments, expected = MISTAKES[mistake]
    out = tmp_path / "run"
    code, text, err = run(*arguments, *(["--out", str(out)] if arguments[0] == "train" else []))
    assert code == 2
    assert not text or arguments[0] == "train", "training says what its settings are before it finds that a model does not exist"
    assert len(err.splitlines()) == 1 and err.startswith("steptool: ")
    assert all(part in err for part in expected), err
    assert not list(out.rglob("*"))


@pytest.mark.parametrize("line", ["trian", "eval --splt test", "train --updates ten", "eval --episodes 0"])
def test_wrong_usage(run: Any, line: str) -> None:
    code, _, err = run(*line.split())
    assert code == 2
    assert "Usage: " in err
    assert "Traceback" not in err


def test_where_a_run_goes_by_default(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []

    def algorithm(config: Any, out: Path, **_: Any) -> dict[str, Any]:
        seen.append(out)
        return {}

    monkeypatch.setattr("steptool_agents.algorithms.load_algorithm", lambda name: algorithm)
    assert run("train", "--seed", 3, "--json")[0] == 0
    assert seen == [Path("runs/step-ppo-tiny-worlds-3")]


@pytest.mark.parametrize("split", ["train", "all", "paraphrases", "compositions", "domains"])
def test_any_split_of_a_suite_can_be_evaluated(run: Any, split: str) -> None:
    code, out, _ = run("eval", "--policy", "oracle", "--episodes", 2, "--split", split, "--json")
    assert code == 0
    assert json.loads(out)["split"] == split
    assert "2 " in run("eval", "--policy", "oracle", "--episodes", 2, "--split", split)[1]


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        (("eval", "--policy", "oracle", "--option", "split=train"), "--split train"),
        (("play", "--option", "split=test"), "--split test"),
        (("play", "--option", "suite=worlds"), "--suite worlds"),
        (("audit", "--option", "suite=worlds"), "--suite worlds"),
        (("demonstrations", "--out", "lines.jsonl", "--option", "suite=worlds"), "--suite worlds"),
    ],
)
def test_an_option_that_has_a_flag_of_its_own(run: Any, line: tuple[str, ...], flag: str) -> None:
    code, _, err = run(*line)
    assert code != 0
    assert f"use {flag}" in err


def test_a_keyword_of_something_else_is_no_option_of_a_suite(run: Any) -> None:
    for command in (("play",), ("audit",)):
        code, _, err = run(*command, "--option", "shaper=steptool")
        assert code != 0
        assert "unknown option of suite 'worlds' 'shaper'" in err


def test_a_fault_of_our_own_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steptool_agents.cli.command.app", partial(truediv, 1, 0))  # no line of a user's file takes part
    with pytest.raises(ZeroDivisionError):
        cli.main()


# ---------------------------------------------------------------- processes
def process(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, env={**os.environ, "COLUMNS": "160"}, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("line", ["suites --json", "eval --policy oracle --episodes 3 --json", "eval --policy random --episodes 3"])
def test_what_needs_no_model_imports_no_torch(line: str) -> None:
    program = f"""
import sys
from steptool_agents.cli import main
sys.argv = ["steptool", *{line.split()!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
found = {{"torch", "transformers", "matplotlib", "tensorboard"}} & set(sys.modules)
assert not found, found
"""
    assert process(program)


def test_starting_up() -> None:
    started = time.perf_counter()
    out = process("import sys; sys.argv = ['steptool', '--help']; from steptool_agents.cli import main; main()")
    print(f"steptool --help took {time.perf_counter() - started:.2f} s")
    assert "Usage: " in out


# ---------------------------------------------------------------- the audit
def test_an_audit_that_passes(run: Any) -> None:
    code, out, err = run("audit", "--shaper", "steptool", "--level", 1, "--episodes", 6, "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert (report["suite"], report["shaper"], report["passed"], report["faults"]) == ("worlds", "steptool", True, [])
    oracle = next(row for row in report["rows"] if row["policy"] == "oracle")
    assert (oracle["episodes"], oracle["success"], oracle["reward"]) == (6, 1.0, pytest.approx(1.5))


def test_an_audit_that_fails(run: Any) -> None:
    options = ("audit", "--shaper", "naive-success", "--shaper-option", "bonus=0.2", "--option", "depth=[2,2]", "--episodes", 6)
    code, out, _ = run(*options)
    assert code == 1
    assert all(word in out for word in ("staller", "noisy oracle 25%", "bonus", "more than the oracle's", "failed"))
    code, out, _ = run(*options, "--json")
    assert (code, json.loads(out)["passed"]) == (1, False)


def test_an_audit_of_ones_own_shaper_in_the_current_folder(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_rewards.py").write_text(
        "class Own:\n    def __init__(self, weight=1.0): self.weight = weight\n"
        "    def __call__(self, episode): return {'own': self.weight * (episode[-1].outcome.solved if episode[-1].outcome else 0)}\n",
        encoding="utf-8",
    )
    code, out, _ = run("audit", "--shaper", "own_rewards:Own", "--shaper-option", "weight=3", "--episodes", 4, "--json")
    assert code == 0
    assert max(row["reward"] for row in json.loads(out)["rows"]) == 3.0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--shaper", "fnal"), ["unknown shaper", "final"]),
        (("--shaper", "paper-judge"), ["endpoint"]),
        (("--shaper-option", "alpa=1"), ["alpa", "alpha"]),
        (("--suite", "wrlds"), ["unknown suite", "worlds"]),
    ],
)
def test_a_wrong_audit_says_what_is_wrong_in_one_line(run: Any, options: tuple[str, ...], words: list[str]) -> None:
    code, _, err = run("audit", *options)
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert all(word in err for word in words)


def test_an_audit_needs_no_torch(tmp_path: Path) -> None:
    program = (
        "import sys; sys.argv = ['steptool', 'audit', '--episodes', '2', '--json']\nfrom steptool_agents.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, capture_output=True)
