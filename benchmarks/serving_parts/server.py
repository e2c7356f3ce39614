"""A model server on loopback that speaks as vLLM does, as far as training asks, and writes for all requests in one batch.

python benchmarks/serving_parts/server.py LATENCY      # serves tiny until its input ends; prints its port

It plays with the engine of this package. Answers are held back to multiples of ``LATENCY`` seconds, as if the model were larger or the
server far away; so episodes stay in step, and the batches are large.
"""

from __future__ import annotations

import http.server
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import Any

__all__ = ["serving"]


GATHER = 0.05
"""Seconds that a server with nothing to do waits for others after the first request: a batch costs little more than a row."""


class Player:
    """One thread that owns the model: it reads, writes, and loads weights between two tokens."""

    def __init__(self) -> None:
        import torch

        from steptool_agents import load_model

        torch.set_num_threads(1)
        self.lm = load_model("tiny")
        self.engine: Any = None
        self.waiting: queue.Queue[tuple[str, dict[str, Any], Future[Any]]] = queue.Queue()
        self.writing: dict[int, Future[Any]] = {}
        threading.Thread(target=self.run, daemon=True).start()

    def ask(self, what: str, body: dict[str, Any]) -> Any:
        """Do what a request says, and return its answer."""
        future: Future[Any] = Future()
        self.waiting.put((what, body, future))
        return future.result()

    def run(self) -> None:
        import torch

        with torch.inference_mode():
            while True:
                if not self.writing:
                    self.take(*self.waiting.get())
                    time.sleep(GATHER)
                while not self.waiting.empty():
                    self.take(*self.waiting.get())
                if not self.writing:
                    continue
                for key, written in self.engine.step():
                    choice = {"text": "", "token_ids": written.ids, "logprobs": {"token_logprobs": written.logprobs}}
                    self.writing.pop(key).set_result({"choices": [choice]})

    def take(self, what: str, body: dict[str, Any], future: Future[Any]) -> None:
        if what != "completions":
            future.set_result(self.load(body["kwargs"]["weights_path"]) if what == "collective_rpc" else {})
            return
        if self.engine is None:
            self.engine = self.begin(body)
        key, ids = body["seed"] - len(body["prompt"]), body["prompt"]  # an episode adds the number of its tokens to its seed
        if key in self.engine and self.engine.length(key) < len(ids):
            self.engine.extend(key, ids[self.engine.length(key) :])
        else:
            self.engine.add(key, ids, key + 1)  # a seed of its own: what it samples is not what the learner would have sampled
        self.writing[key] = future

    def begin(self, body: dict[str, Any]) -> Any:
        from steptool_agents.generation.admission import Limits
        from steptool_agents.generation.choice import make_engine

        decode, stops, ends = self.lm.tokenizer.decode, body["stop"], set(body["stop_token_ids"])

        def ended(ids: list[int]) -> bool:
            return ids[-1] in ends or any(stop in decode(ids) for stop in stops)

        return make_engine(self.lm, Limits(body["max_tokens"], body["temperature"], 4096, 10**6), ended)

    def load(self, folder: str) -> dict[str, Any]:
        import torch
        from transformers import AutoModelForCausalLM

        with torch.inference_mode(False):
            self.lm.model.load_state_dict(AutoModelForCausalLM.from_pretrained(folder).state_dict())
        self.engine = None
        return {"results": [None]}


def serve(latency: float) -> None:
    """Serve until the input ends."""
    player = Player()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}")
            what = self.path.rsplit("/", 1)[-1]
            data = json.dumps(player.ask(what, body)).encode()
            if what == "completions":
                time.sleep(-time.time() % latency if latency else 0.0)
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None: ...

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


@contextmanager
def serving(count: int, latency: float = 0.0, *, apart: bool = False) -> Iterator[str]:
    """Start so many servers, each a process; yields their endpoints, separated by commas. ``apart``: they share the last core, and use no other."""
    command = [sys.executable, __file__, str(latency)]
    with ExitStack() as stack:
        started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(count)]
        for one in started:
            stack.callback(_end(one))
            if apart and hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(one.pid, {max(os.sched_getaffinity(0))})
        yield ",".join(f"http://127.0.0.1:{int(one.stdout.readline())}/v1" for one in started if one.stdout is not None)


def _end(process: subprocess.Popen[str]) -> Callable[[], None]:
    def end() -> None:
        process.kill()
        process.communicate()

    return end


if __name__ == "__main__":
    serve(float(sys.argv[1]))
