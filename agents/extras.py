"""Which extra of the installation brings a package that is missing."""

from __future__ import annotations

from steptool_env.errors import MissingExtra

__all__ = ["missing_extra"]

_EXTRAS = {
    "agents": ("torch", "transformers", "tokenizers", "safetensors", "peft", "accelerate", "httpx2", "tensorboard", "matplotlib"),
    "sb3": ("stable_baselines3", "sb3_contrib"),
    "constrained": ("llguidance",),
    "minari": ("minari",),
    "mcp": ("mcp",),
    "smollm2": ("gguf",),
    "video": ("PIL", "moviepy"),
}
"""Extra -> top-level modules that it brings."""


def missing_extra(fault: BaseException, what: str) -> MissingExtra | None:
    """Return an error that names the pip command, if an import failed because an extra is not installed; else None.

    Args:
        fault: What was raised; a ``ModuleNotFoundError`` may be its cause.
        what: What needs the package, for the message.
    """
    seen: BaseException | None = fault
    while seen is not None:
        if isinstance(seen, MissingExtra):
            return seen
        if isinstance(seen, ImportError) and seen.name:
            package = seen.name.partition(".")[0]
            for extra, packages in _EXTRAS.items():
                if package in packages:
                    return MissingExtra(what, package, f"pip install 'steptool-env[{extra}]'")
        seen = seen.__cause__
    return None
