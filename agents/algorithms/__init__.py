"""What learns: one file an algorithm, each reads from top to bottom and imports no other."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from steptool_env.errors import InvalidArgument, UnknownName

__all__ = ["ALGORITHMS", "load_algorithm"]

ALGORITHMS: dict[str, str] = {
    "sft": ".sft:train",
    "rft": ".rft:train",
    "step-ppo": ".step_ppo:train",
    "step-ppo-offline": ".offline:train",
    "ppo-final": ".step_ppo:train",
    "step-reinforce": ".step_ppo:train",
    "rloo": ".step_ppo:train",
    "grpo": ".step_ppo:train",
    "gigpo": ".step_ppo:train",
    "eto": ".eto:train",
    "archer": ".archer:train",
}
"""Name -> ``"module:function"`` of the algorithm, imported when it is used: the command line starts without torch.
Those with the same function differ in their settings, ``ALGORITHM_SETTINGS`` in ``config.py``."""


def load_algorithm(name: str) -> Callable[..., Any]:
    """Return a training function.

    Args:
        name: One of ``ALGORITHMS``; or one of your own: ``"module:function"``, ``"path/to/file.py"`` (its function ``train``), or
            ``"path/to/file.py:function"``. It is called as ``step_ppo.train`` is: ``(config, out, resume=, console=)``.

    Raises:
        UnknownName: There is no such algorithm.
        InvalidArgument: The file or module cannot be imported, or has no such function.
    """
    if name not in ALGORITHMS and ":" not in name and not name.endswith(".py"):
        raise UnknownName("algorithm", name, [*ALGORITHMS, "module:function", "path/to/file.py"])
    entry = ALGORITHMS.get(name, name)
    where, _, function = entry.rpartition(":") if ":" in entry else (entry, "", "train")
    try:
        module = _from_file(where) if where.endswith(".py") else importlib.import_module(where, __name__)
    except (ImportError, OSError, SyntaxError, ValueError) as fault:
        raise InvalidArgument(f"algorithm {name!r} cannot be imported: {type(fault).__name__}: {fault}") from fault
    found = getattr(module, function, None)
    if not callable(found):
        raise InvalidArgument(f"algorithm {name!r}: {where} has no function {function!r}; it must take (config, out, *, resume, console)")
    return found  # type: ignore[no-any-return]


def _from_file(path: str) -> ModuleType:
    """Import a Python file that need not be on the path."""
    spec = importlib.util.spec_from_file_location(re.sub(r"\W", "_", path), path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look a class's module up there
    spec.loader.exec_module(module)
    return module
