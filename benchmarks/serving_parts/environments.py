"""Environments of their own for programs that cannot share one with this package, or should not; each is made once.

They are kept in the cache folder of the packaged models (``$STEPTOOL_CACHE``).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["environment"]


def environment(name: str, commands: Sequence[Sequence[str]], needs: str, say: Callable[[str], None]) -> Path:
    """Return the interpreter of an environment; it is made if it is not there, or was not made to the end.

    Args:
        name: Of its folder; another version needs another one.
        commands: For pip, one after the other.
        needs: How long it takes and how large it gets, for whoever waits.
        say: Told before it is made.
    """
    from steptool_agents.models.packaged import cache_folder

    folder = cache_folder() / name
    python, ready = folder / "bin" / "python", folder / "ready"
    if not ready.is_file():
        say(f"{name} is installed in {folder}: {needs}")
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        for command in commands:
            subprocess.run([str(python), "-m", "pip", *command], check=True)
        ready.touch()
    return python
