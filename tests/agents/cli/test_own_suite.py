"""A suite, a shaper and an algorithm from files of the user's own, through every command, and found again from another folder."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import steptool
from lms import TINY  # noqa: F401  # sets one thread
from project import ROOT

from steptool_agents.runs.folder import read_config
from steptool_agents.runs.trackers import read_metrics
from steptool_env import reference

Run = Callable[..., tuple[int, str, str]]

SHAPER = """
class Verdict:
    def __call__(self, episode):
        return {"verdict": episode[-1].outcome.solved if episode[-1].outcome else 0.0}
"""
ALGORITHM = "from steptool_agents.algorithms.step_ppo import train\n\nSETTINGS = {'entropy': 0.02}\n"
SMALL = "demos=16 demo_batch=8 episodes=4 minibatches=1 epochs=1 value_passes=1 eval_episodes=4 eval_width=4 report_to=none".split()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The user's folder: the suite of the documentation, whose tools lie in a file of their own, a shaper and an algorithm."""
    folder = tmp_path / "project"
    folder.mkdir()
    page = (ROOT / "docs" / "own_suite.md").read_text(encoding="utf-8")
    found = re.search(r"^```python\n(# file: shop.py\n.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    tools, suite = found[1].split("class Shop(TaskSuite):")
    (folder / "shop_tools.py").write_text(tools, encoding="utf-8")
    (folder / "shop.py").write_text(f"from shop_tools import *\n\nclass Shop(TaskSuite):{suite}", encoding="utf-8")
    (folder / "verdict.py").write_text(SHAPER, encoding="utf-8")
    (folder / "mine.py").write_text(ALGORITHM, encoding="utf-8")
    return folder


@pytest.fixture
def run(project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run a command in a folder, as a new process would: it knows nothing of what earlier commands imported."""
    paths = [*sys.path]

    def forget() -> None:
        reference._loaded.clear()
        for name, module in [*sys.modules.items()]:
            if str(getattr(module, "__file__", None) or "").startswith(str(project)):
                del sys.modules[name]

    def command(*arguments: object, folder: Path = project) -> tuple[int, str, str]:
        forget()
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "path", [*paths])
        return steptool(*map(str, arguments), capsys=capsys, monkeypatch=monkeypatch)

    yield command
    forget()


def settings(*more: str) -> list[str]:
    return [part for setting in (*SMALL, *more) for part in ("--set", setting)]


def test_from_the_file_to_the_trained_model_and_on_from_elsewhere(run: Run, project: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "shop.py").write_text("raise AssertionError('the wrong file')\n", encoding="utf-8")
    own = ("--suite", "shop.py", "--option", "tasks=20", "--shaper", "verdict.py", "--algo", "mine.py", "--model", "tiny")
    code, out, err = run("train", *own, "--updates", 1, *settings())
    assert (code, err) == (0, ""), err
    folder = project / "runs" / "mine-tiny-shop-0"
    assert "success" in out and (folder / "report.json").is_file()
    config = read_config(folder)
    assert (config.task.suite, config.task.suite_options) == (str(project / "shop.py"), {"tasks": 20})
    assert (config.task.shaper, config.learning.algo) == (str(project / "verdict.py"), str(project / "mine.py"))
    assert (config.warm_start.demo_options, config.learning.entropy) == ({}, 0.02)

    code, out, err = run("train", "--resume", "--out", folder, "--updates", 2, folder=elsewhere)
    assert (code, err) == (0, "")
    metrics = read_metrics(folder)
    assert [line["update"] for line in metrics] == [0, 1] and "reward/verdict" in metrics[1]

    code, out, err = run("eval", "--run", folder, "--episodes", 3, "--json", folder=elsewhere)
    found = json.loads(out)
    assert (code, found["suite"], found["episodes"], found["options"]) == (0, "shop", 3, {"tasks": 20})
    code, again, _ = run("eval", "--run", folder, "--suite", "shop.py", "--episodes", 3, "--json")
    assert json.loads(again) == found, "its own suite by another name of the same file keeps its options"

    code, out, _ = run("view", folder, "--json", folder=elsewhere)
    assert (code, json.loads(out)["summary"]["episodes"]) == (0, 4)
    code, out, _ = run("view", folder, "--episode", 0, folder=elsewhere)
    assert code == 0 and "Cancel the order of" in out

    (project / "shop.py").rename(project / "moved.py")
    for command in (["eval", "--run", folder], ["train", "--resume", "--out", folder, "--updates", 3]):
        code, _, err = run(*command, folder=elsewhere)
        assert code == 2 and len(err.splitlines()) == 1, err
        assert f"there is no file {project / 'shop.py'}; if it has moved, put it (or a link to it) back there" in err
    code, out, _ = run("eval", "--run", folder, "--suite", "../project/moved.py", "--option", "tasks=20", "--episodes", 3, "--json", folder=elsewhere)
    assert json.loads(out) == found


def test_commands_without_a_model(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = ("--suite", "project/shop.py:Shop", "--option", "tasks=8")
    code, out, _ = run("audit", *suite, "--shaper", "project/verdict.py", "--episodes", 4, "--json", folder=tmp_path)
    found = json.loads(out)
    assert (code, found["passed"], found["suite"]) == (0, True, "shop")
    assert {name for row in found["rows"] for name in row["parts"]} == {"verdict"}
    code, out, _ = run("eval", *suite, "--policy", "oracle", "--episodes", 4, "--json", folder=tmp_path)
    assert (code, json.loads(out)["success"]) == (0, 1.0)
    code, out, _ = run("demonstrations", *suite, "--count", 3, "--out", "d.jsonl", "--json", folder=tmp_path)
    assert (code, json.loads(out)["episodes"]) == (0, 3)
    monkeypatch.setattr("rich.console.Console.input", lambda *_, **__: "quit")
    code, out, _ = run("play", *suite, "--shaper", "project/verdict.py", "--task", 0, "--json", folder=tmp_path)
    assert (code, json.loads(out)["task_id"]) == (0, "shop-0")


def test_a_module_in_the_current_folder(run: Run) -> None:
    code, out, _ = run("eval", "--suite", "shop:Shop", "--policy", "oracle", "--episodes", 2, "--json")
    assert (code, json.loads(out)["success"]) == (0, 1.0)


def test_who_stops_a_run_is_told_how_to_go_on(run: Run, project: Path, tmp_path: Path) -> None:
    head = "from steptool_agents import Run\n\ndef train(config, out, *, resume=False, console=None):\n"
    stopping = f"{head}    with Run(config, out, resume=resume):\n        raise KeyboardInterrupt\n"
    (project / "stopping.py").write_text(stopping, encoding="utf-8")
    out = tmp_path / "a run"
    code, _, said = run("train", "--suite", "shop.py", "--algo", "stopping.py", "--out", out, "--set", "report_to=none")
    assert (code, said.splitlines()[-1]) == (130, f"stopped; what is complete is kept. Go on with: steptool train --resume --out '{out}'")


def test_a_table_stores_where_the_files_are(run: Run, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def run_grid(spec: object, *_: object, **__: object) -> None:
        seen.append(spec)
        raise KeyboardInterrupt

    monkeypatch.setattr("steptool_agents.experiments.grid.run_grid", run_grid)
    assert run("table", "--method", "mine.py", "--set", "suite=shop.py", "--set", "suite_options.tasks=8", "--out", tmp_path / "grid")[0] == 130
    (spec,) = seen
    assert (spec.methods, spec.splits) == ({"mine.py": {"algo": str(project / "mine.py")}}, {"held-out": {}})
    config = spec.config("mine.py", 0)
    assert (config.task.suite, config.task.suite_options) == (str(project / "shop.py"), {"tasks": 8})


MISTAKES = {
    "no file": (["--suite", "shp.py"], "shp.py': there is no file"),
    "no class": (["--suite", "shop.py:Shp"], "shop.py has no 'Shp'; it has: Shop"),
    "no option": (["--suite", "shop.py", "--option", "taks=3"], "Did you mean 'tasks'"),
    "no shaper": (["--shaper", "verdict.py:Vrdict"], "verdict.py has no 'Vrdict'; it has: Verdict"),
    "no algorithm": (["--algo", "shop.py"], "define a function 'train'"),
    "budget": (["--suite", "shop.py", "--set", "max_new_tokens=3"], "takes 10 tokens and max_new_tokens is 3: set max_new_tokens to 10 or more"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(run: Run, project: Path, mistake: str) -> None:
    arguments, said = MISTAKES[mistake]
    code, _, err = run("train", "--model", "tiny", "--out", "refused", *arguments)
    assert code == 2 and len(err.splitlines()) == 1 and err.startswith("steptool: "), err
    assert said in err
    assert not list((project / "refused").rglob("*.json"))
