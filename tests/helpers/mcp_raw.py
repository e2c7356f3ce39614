"""An MCP server over stdio, without an SDK: it answers what a JSON file says, right or wrong, and may misbehave.

python tests/helpers/mcp_raw.py SCRIPT
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import Any


def _text(text: str, **more: Any) -> dict[str, Any]:
    return {"result": {"content": [{"type": "text", "text": text}], **more}}


def play(script: dict[str, Any]) -> None:
    """Play a script.

    ``tools`` is what it lists; ``calls`` says what a tool does: it answers with a result or an error as they are, or it is one of
    ``remember``, ``recall`` (the words, and the process), ``clear``, ``fail``, ``wait`` and ``die``. ``before``: it exits or hangs, the latter
    ``deaf`` to signals. ``noise`` and ``garbage`` go to stderr and stdout first. ``mark``: the file for the ids of its processes.
    """
    words: list[str] = []
    if "mark" in script:
        with open(script["mark"], "a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
    sys.stderr.write("x" * script.get("noise", 0) + "\nlast words\n")
    sys.stderr.flush()
    for _ in range(script.get("garbage", 0)):
        print("this is no message", flush=True)
    if script.get("before") == "exit":
        sys.exit(1)
    if script.get("before") == "hang":
        if script.get("deaf"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        threading.Event().wait(600)
    for line in sys.stdin:
        message = json.loads(line)
        method = message.get("method")
        answer: dict[str, Any] = {"error": {"code": -32601, "message": "unknown method"}}
        if method == "initialize":
            info = {"name": "raw", "version": "1"}
            answer = {"result": {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info}}
        elif method == "tools/list":
            answer = {"result": {"tools": script["tools"]}}
        elif method == "tools/call":
            act = script["calls"][message["params"]["name"]]
            if act == "die":
                sys.exit(3)
            elif act == "wait":
                threading.Event().wait(600)
            elif act == "remember":
                words.append(message["params"]["arguments"]["word"])
                act = _text("kept")
            elif act == "recall":
                act = _text(" ".join([*words, f"pid={os.getpid()}"]))
            elif act == "clear":
                words.clear()
                act = _text("cleared")
            elif act == "fail":
                act = _text("cannot", isError=True)
            answer = act
        if "id" in message:
            print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer}), flush=True)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as script_file:
        play(json.load(script_file))
