"""Benchmarks as modules: they are scripts, and no package holds them."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

from project import BENCHMARKS

__all__ = ["BENCHMARKS", "load"]


def load(name: str) -> ModuleType:
    """Return a benchmark as a module; as when it is run, it finds those beside it."""
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look for their module there
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module
