"""Solutions that do not fit into a run's budgets: measured by hand, refused if none fits, said if some do not."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from lms import TINY  # noqa: F401  # sets one thread
from rich.console import Console
from toy import Counting

from steptool_agents import Config, LMPolicy, NativePrompts, load_model
from steptool_agents.runs.fitting import Need, check_budgets, needs
from steptool_agents.runs.run import Run
from steptool_env import SUITES, TaskSuite, Toolkit
from steptool_env.errors import InvalidArgument
from steptool_env.types import ToolCall
