"""StepTool: multi-step tool use as a Gymnasium environment, with a reward for every step.

Importing the package registers ``StepTool-v0``:

    >>> import gymnasium as gym, steptool_env
    >>> env = gym.make("StepTool-v0", suite="worlds", level=1)
"""

from __future__ import annotations

import gymnasium as gym

from steptool_env.audit import Audit, audit
from steptool_env.env import Snapshot, StepToolEnv
from steptool_env.errors import StepToolError
from steptool_env.formats import FORMATS, CallFormat, make_format
from steptool_env.rewards import SHAPERS, RewardShaper, make_shaper
from steptool_env.spaces import TextSpace, ToolCallSpace
from steptool_env.tasks import SUITES, Episode, TaskSuite, make_suite
from steptool_env.tools.tool import Tool, tool
from steptool_env.tools.toolkit import FINISH, Toolkit
from steptool_env.types import ERRORS, Action, Malformed, Message, Observation, Outcome, Task, ToolCall, ToolResult, Transition, as_chat

__all__ = [
    "ERRORS",
    "FINISH",
    "FORMATS",
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
    "as_chat",
    "audit",
    "make_format",
    "make_shaper",
    "make_suite",
    "tool",
]

__version__ = "0.1.0"

if "StepTool-v0" not in gym.registry:
    gym.register(id="StepTool-v0", entry_point="steptool_env.env:StepToolEnv")
