"""The servers of ``benchmarks/mcp_servers.py``, where they are installed: STEPTOOL_MCP_SERVERS names their folder."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from project import BENCHMARKS

pytest.importorskip("mcp", reason="mcp is not installed: pip install 'steptool-env[mcp]'")

FOLDER = os.environ.get("STEPTOOL_MCP_SERVERS", "")
NAMES = ["mcp-server-time", "mcp-server-git", "mcp-server-sqlite", "server-everything", "server-filesystem", "server-memory"]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("mcp_servers")
    sys.modules.pop("mcp_servers")


@pytest.mark.parametrize("name", NAMES)
def test_the_second_episode_is_untouched_by_the_first_and_by_a_kill(benchmark: ModuleType, name: str, tmp_path: Path) -> None:
    server = benchmark.servers(tmp_path)[name]
    reason = benchmark.missing(server, Path(FOLDER)) if FOLDER else "STEPTOOL_MCP_SERVERS does not name a folder of servers"
    if reason:
        pytest.skip(reason)
    assert benchmark.play(server, Path(FOLDER), tmp_path).faults == []
