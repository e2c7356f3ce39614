"""StepTool: multi-step tool use as a Gymnasium environment, with a reward for every step.

Importing the package registers ``StepTool-v0``, ``StepToolText-v0`` and ``StepToolDiscrete-v0``:

    >>> import gymnasium as gym, steptool_env
    >>> env = gym.make("StepTool-v0", suite="worlds", level=1)
"""

from __future__ import annotations

import gymnasium as gym

from steptool_env.audit import Audit, audit
from steptool_env.env import Snapshot, StepToolEnv
from steptool_env.errors import StepToolError
from steptool_env.formats import FORMATS, REPAIRS, CallFormat, Reading, check_tools, make_format, read
from steptool_env.rewards import SHAPERS, RewardShaper, make_shaper
from steptool_env.spaces import TextSpace, ToolCallSpace
from steptool_env.tasks import SUITES, Episode, TaskSuite, make_suite
from steptool_env.tools.tool import Tool, tool
from steptool_env.tools.toolkit import FINISH, Toolkit
from steptool_env.types import (
    ERRORS,
    PARTIES,
    Action,
    Malformed,
    Message,
    Observation,
    Outcome,
    Task,
    ToolCall,
    ToolResult,
    Transition,
    Unanswered,
    as_chat,
    whose,
)

__all__ = [
    "ERRORS",
    "FINISH",
    "FORMATS",
    "PARTIES",
    "REPAIRS",
    "SHAPERS",
    "SUITES",
    "Action",
    "Audit",
    "CallFormat",
    "Episode",
    "Malformed",
    "Message",
    "Observation",
    "Outcome",
    "Reading",
    "RewardShaper",
    "Snapshot",
    "StepToolEnv",
    "StepToolError",
    "Task",
    "TaskSuite",
    "TextSpace",
    "Tool",
    "ToolCall",
    "ToolCallSpace",
    "ToolResult",
    "Toolkit",
    "Transition",
    "Unanswered",
    "as_chat",
    "audit",
    "check_tools",
    "make_format",
    "make_shaper",
    "make_suite",
    "read",
    "tool",
    "whose",
]

__version__ = "0.1.0"

# The passive checker of gym.make would walk the whole transcript at every step. It is off: steptool_env.testing checks the same, and more.
for _id, _entry in (
    ("StepTool-v0", "steptool_env.env:StepToolEnv"),
    ("StepToolText-v0", "steptool_env.wrappers:StepToolTextEnv"),
    ("StepToolDiscrete-v0", "steptool_env.wrappers:StepToolDiscreteEnv"),
):
    if _id not in gym.registry:
        gym.register(id=_id, entry_point=_entry, disable_env_checker=True)
