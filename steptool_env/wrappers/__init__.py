"""Other forms of StepTool-v0: the same decision process with other actions and observations. One file per form."""

from __future__ import annotations

from steptool_env.wrappers.discrete import StepToolDiscreteEnv
from steptool_env.wrappers.text import StepToolTextEnv

__all__ = ["StepToolDiscreteEnv", "StepToolTextEnv"]
