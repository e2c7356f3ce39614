"""Real MCP servers: two episodes each, with the server killed between them, and the second untouched by the first.

    python benchmarks/mcp_servers.py --install --folder mcp-servers    # once: two environments of Python, one of Node
    python benchmarks/mcp_servers.py --folder mcp-servers              # writes benchmarks/results/mcp_servers.md

Every episode makes the same calls, which leave something behind in the server or in its files. Then the process is killed: a further call
of that episode must be ``unavailable``, and the next episode must start the server again and read the very same answers. A third
episode follows without a kill, and must read them, too. The exit status is 1 if one of these does not hold. A server that is not
installed is left out, with the reason.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from steptool_env import ToolCall, Toolkit
from steptool_env.tools.mcp import McpSource

RESULTS = Path(__file__).parent / "results" / "mcp_servers.md"
PYTHON = {"python": ["mcp-server-time==2026.10.19", "mcp-server-git==2026.10.19"], "sqlite": ["mcp-server-sqlite==2025.4.25", "mcp==1.30.0"]}
"""Environment -> what is installed in it; the server of SQLite needs an older SDK than ours."""
NODE = [f"@modelcontextprotocol/server-{name}@2026.8.31" for name in ("everything", "filesystem", "memory")]


class Server(NamedTuple):
    """A server, and what an episode does with it."""

    program: str
    """Below the folder of the installation."""
    arguments: list[str]
    options: dict[str, Any]
    """Of ``McpSource``."""
    calls: list[tuple[str, dict[str, Any]]]
    prepare: Callable[[], object] = lambda: None
    """What the author of a suite does at the beginning of an episode, for a server that keeps its state in files."""
    kept_apart: str = "nothing to keep apart"


def servers(work: Path) -> dict[str, Server]:
    """Return the servers, set up in a folder for their files."""
    files, repository, database = work / "files", work / "repository", work / "shop.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE items (name TEXT)")

    def new_folder() -> None:
        shutil.rmtree(files, ignore_errors=True)
        files.mkdir()
        (files / "a.txt").write_text("first\n", encoding="utf-8")

    def new_repository() -> None:
        shutil.rmtree(repository, ignore_errors=True)
        identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.com"]
        subprocess.run(["git", "init", "--quiet", "--initial-branch", "main", repository], check=True)
        subprocess.run(["git", *identity, "-C", repository, "commit", "--quiet", "--allow-empty", "-m", "first"], check=True)

    new_folder()
    new_repository()
    entity = {"name": "lamp", "entityType": "item", "observations": ["costs 30"]}
    node, path = "node_modules/.bin/mcp-server-", str(repository)
    return {
        "mcp-server-time": Server(
            "python/bin/mcp-server-time", [], {}, [("convert_time", {"source_timezone": "UTC", "time": "16:30", "target_timezone": "Asia/Tokyo"})]
        ),
        "mcp-server-git": Server(
            "python/bin/mcp-server-git",
            ["--repository", path],
            {},
            [
                ("git_branch", {"repo_path": path, "branch_type": "local"}),
                ("git_create_branch", {"repo_path": path, "branch_name": "new"}),
                ("git_status", {"repo_path": path}),
                ("git_checkout", {"repo_path": path, "branch_name": "none"}),
            ],
            new_repository,
            "the author: a new repository",
        ),
        "mcp-server-sqlite": Server(
            "sqlite/bin/mcp-server-sqlite",
            ["--db-path", str(database)],
            {"reset": ToolCall("write_query", {"query": "DELETE FROM items"}), "tools": ["write_query", "read_query", "list_tables"]},
            [
                ("read_query", {"query": "SELECT * FROM items"}),
                ("write_query", {"query": "INSERT INTO items VALUES ('lamp')"}),
                ("read_query", {"query": "SELECT * FROM items"}),
            ],
            kept_apart="`reset=ToolCall(…)`",
        ),
        "server-everything": Server(
            f"{node}everything",
            [],
            {"restart": True},
            [
                ("get-sum", {"a": 1, "b": 2}),
                ("get-structured-content", {"location": "Chicago"}),
                ("get-resource-links", {"count": 2}),
                ("get-tiny-image", {}),
                ("toggle-simulated-logging", {}),
            ],
            kept_apart="`restart=True`",
        ),
        "server-filesystem": Server(
            f"{node}filesystem",
            [str(files)],
            {},
            [
                ("list_directory", {"path": str(files)}),
                ("write_file", {"path": str(files / "b.txt"), "content": "second\n"}),
                ("read_text_file", {"path": str(files / "b.txt")}),
                ("read_text_file", {"path": "/etc/hostname"}),
            ],
            new_folder,
            "the author: a new folder",
        ),
        "server-memory": Server(
            f"{node}memory",
            [],
            {"env": {"MEMORY_FILE_PATH": str(work / "memory.jsonl")}, "reset": ToolCall("delete_entities", {"entityNames": ["lamp"]})},
            [("read_graph", {}), ("create_entities", {"entities": [entity]}), ("read_graph", {})],
            kept_apart="`reset=ToolCall(…)`",
        ),
    }


class Played(NamedTuple):
    """What was seen of one server."""

    protocol: str
    tools: int
    left_out: dict[str, str]
    start: float
    """Seconds until the tools were listed."""
    answers: list[list[tuple[str, str]]]
    """Kind of error and content, of every call of every episode."""
    after_the_kill: str
    """The kind of error of a call of the first episode, after the process was killed."""
    processes: int
    """How many were started."""

    @property
    def faults(self) -> list[str]:
        """What does not hold."""
        faults = [f"episode {number} reads other answers than the first" for number in (2, 3) if self.answers[number - 1] != self.answers[0]]
        faults += [f"a call failed: {content}" for error, content in self.answers[0] if error not in ("", "rejected")]
        return faults + ["a call of a killed server is not unavailable"] * (self.after_the_kill != "unavailable")


def play(server: Server, folder: Path, work: Path) -> Played:
    """Play three episodes, with the server killed after the first."""
    started = work / "started"
    started.write_text("", encoding="utf-8")
    command = ["sh", "-c", 'echo $$ >> "$0"; exec "$@"', str(started), str(folder / server.program), *server.arguments]
    begin = time.perf_counter()
    source = McpSource(command, **server.options)
    start = time.perf_counter() - begin
    answers: list[list[tuple[str, str]]] = []
    after = ""
    try:
        for number in range(3):
            server.prepare()
            toolkit = source.toolkit()
            answers.append([_ask(toolkit, name, arguments) for name, arguments in server.calls])
            if number == 0:
                os.kill(int(started.read_text(encoding="utf-8").split()[-1]), signal.SIGKILL)
                after = _ask(toolkit, *server.calls[0])[0]
            del toolkit
        processes = len(started.read_text(encoding="utf-8").split())
        return Played(source.protocol, len(source.tools), source.left_out, start, answers, after, processes)
    finally:
        source.close()


def _ask(toolkit: Toolkit, name: str, arguments: dict[str, Any]) -> tuple[str, str]:
    result = toolkit.execute(ToolCall(name, arguments))
    return result.error, result.content


def missing(server: Server, folder: Path) -> str:
    """Return why a server cannot be played, or ``""``."""
    if not (folder / server.program).exists():
        return f"{folder / server.program} does not exist; python benchmarks/mcp_servers.py --install --folder {folder}"
    if server.program.startswith("node_modules") and shutil.which("node") is None:
        return "node is not installed"
    return ""


def install(folder: Path) -> None:
    """Install the servers, in environments of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, packages in PYTHON.items():
        venv.create(folder / name, with_pip=True)
        subprocess.run([folder / name / "bin" / "python", "-m", "pip", "install", "--quiet", *packages], check=True)
    if shutil.which("npm") is None:
        print("npm is not installed: the servers of Node are left out", file=sys.stderr)
    else:
        subprocess.run(["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--silent", *NODE], check=True)


def main() -> int:
    """Play all servers and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("mcp-servers"), help="where the servers are installed")
    parser.add_argument("--install", action="store_true", help="install them, and play nothing")
    parser.add_argument("--verbose", action="store_true", help="print every answer")
    options = parser.parse_args()
    folder = options.folder.resolve()
    if options.install:
        install(folder)
        return 0
    versions = dict(one.rpartition("/")[2].replace("==", "@").split("@") for one in (*NODE, *itertools.chain(*PYTHON.values())))
    lines = [
        "| server | version | protocol | tools | left out | kept apart by | processes | calls | after the kill | second and third as the first |",
        "|" + "---|" * 10,
    ]
    bad = 0
    for name in ("mcp-server-time", "mcp-server-git", "mcp-server-sqlite", "server-everything", "server-filesystem", "server-memory"):
        with tempfile.TemporaryDirectory() as temporary:
            server = servers(Path(temporary).resolve())[name]
            if reason := missing(server, folder):
                print(f"{name}: {reason}", file=sys.stderr)
                continue
            played = play(server, folder, Path(temporary).resolve())
        bad += bool(played.faults)
        if options.verbose:
            print(name, json.dumps(played._asdict(), indent=1))
        cells = [played.protocol, played.tools, len(played.left_out), server.kept_apart, played.processes, 3 * len(server.calls), f"`{played.after_the_kill}`"]
        lines.append("| " + " | ".join(map(str, [name, versions[name], *cells, "; ".join(played.faults) or "yes"])) + " |")
        print(lines[-1])
    text = (
        "# Real MCP servers\n\nThree episodes with each server, which make the same calls; after the first one, the process is killed. Made by\n"
        "`python benchmarks/mcp_servers.py`, which says what the columns mean.\n\n" + "\n".join(lines) + "\n"
    )
    RESULTS.write_text(text, encoding="utf-8")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
