"""Tutorials: notebooks that are kept as text (``docs/tutorials/*.py``, jupytext's percent format), executed, and turned into pages.

A notebook finds the files of ``docs/tutorials/data`` in its folder ``data``. An executed one is kept in ``.cache/tutorials`` for as long as
neither the tutorial, nor the packages, nor these files change. A cell that raises ends the build.

    python docs/hooks/notebooks.py            # execute all, and say how long each took
    python docs/hooks/notebooks.py 03_reward  # one of them
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jupytext
import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "tutorials"
DATA = FOLDER / "data"
CACHE = ROOT / ".cache" / "tutorials"


class Tutorial(NamedTuple):
    """One tutorial, executed."""

    name: str
    title: str
    notebook: Any
    seconds: float

    def page(self) -> tuple[str, dict[str, bytes]]:
        """Return the text of its page and the pictures in it, by file name."""
        text, resources = MarkdownExporter().from_notebook_node(self.notebook, {"unique_key": self.name, "output_files_dir": "."})
        head, _, rest = text.partition("\n\n")
        notice = f"[Download as a notebook]({self.name}.ipynb). It runs in about {max(self.seconds, 1):.0f} seconds on two cores."
        return f"{head}\n\n{notice}\n\n{rest}", {name.removeprefix("./"): data for name, data in resources["outputs"].items()}

    def download(self) -> str:
        """Return the notebook as a file, with its outputs."""
        return str(nbformat.writes(self.notebook))


def names() -> list[str]:
    """Return the names of all tutorials, in order."""
    return sorted(path.stem for path in FOLDER.glob("*.py"))


def executed_together(chosen: Sequence[str], processes: int = 2) -> list[Tutorial]:
    """Return tutorials like ``executed``, several at a time: most of them use one core."""
    with ThreadPoolExecutor(processes) as pool:
        return list(pool.map(executed, chosen))


def executed(name: str) -> Tutorial:
    """Return a tutorial with what its cells print and draw, from the cache if it is there.

    Raises:
        CellExecutionError: A cell raised.
    """
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    kept = CACHE / f"{name}-{_sources(text)}.ipynb"
    if not kept.is_file():
        notebook: Any = jupytext.reads(text, fmt="py:percent")
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            if DATA.is_dir():
                shutil.copytree(DATA, Path(folder, DATA.name))
            NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}).execute(env=_environment())
        notebook.metadata["seconds"] = time.monotonic() - started
        CACHE.mkdir(parents=True, exist_ok=True)
        for old in CACHE.glob(f"{name}-*.ipynb"):
            old.unlink()
        kept.write_text(nbformat.writes(notebook), encoding="utf-8")
    notebook = nbformat.read(kept, as_version=4)
    title = notebook.cells[0].source.partition("\n")[0].removeprefix("# ")
    return Tutorial(name, title, notebook, float(notebook.metadata["seconds"]))


def _environment() -> dict[str, str]:
    """Return that of an environment that was activated: its commands are found. One thread each, since several kernels run at a time."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}


def _sources(text: str) -> str:
    """Return a digest of a tutorial and of everything that it imports or reads from here."""
    digest = hashlib.sha256(text.encode())
    read = [*(ROOT / "steptool_env").rglob("*.py"), *(ROOT / "agents").rglob("*.py"), *(path for path in DATA.rglob("*") if path.is_file())]
    for path in sorted(read):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    for tutorial in executed_together(sys.argv[1:] or names()):
        print(f"{tutorial.name}: {tutorial.seconds:.0f} s", flush=True)
