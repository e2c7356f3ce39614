"""A model server on loopback, in a process of its own: it speaks as vLLM does, as far as training asks, and samples what its seed says."""

from __future__ import annotations

import http.server
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from campaign_parts.cases import end, fork

__all__ = ["model_server"]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    lock = threading.Lock()
    """One request at a time, each alone: what is sampled must not depend on who else asks."""
    network: Any = None
    tokenizer: Any = None

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}")
        with self.lock:
            answer = {"collective_rpc": self.load, "reset_prefix_cache": lambda body: {}, "completions": self.sample}[self.path.rsplit("/", 1)[-1]](body)
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def load(self, body: dict[str, Any]) -> dict[str, Any]:
        from transformers import AutoModelForCausalLM

        _Handler.network = AutoModelForCausalLM.from_pretrained(body["kwargs"]["weights_path"])
        return {"results": [None]}

    def sample(self, body: dict[str, Any]) -> dict[str, Any]:
        import torch

        generator, said, logprobs = torch.Generator().manual_seed(body["seed"]), list[int](), list[float]()
        with torch.no_grad():
            while len(said) < body["max_tokens"]:
                row = torch.log_softmax(_Handler.network(torch.tensor([body["prompt"] + said])).logits[0, -1] / body["temperature"], -1)
                said.append(int(torch.multinomial(row.exp(), 1, generator=generator)))
                logprobs.append(float(row[said[-1]]))
                if said[-1] in body["stop_token_ids"] or any(stop in _Handler.tokenizer.decode(said) for stop in body["stop"]):
                    break
        return {"choices": [{"text": "", "token_ids": said, "logprobs": {"token_logprobs": logprobs}}]}

    def log_message(self, *_: Any) -> None: ...


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None: ...  # clients are killed here


@contextmanager
def model_server() -> Iterator[str]:
    """Serve ``tiny``; yields ``http://127.0.0.1:port/v1``."""
    reader, writer = os.pipe()

    def serve() -> None:
        from transformers import AutoTokenizer

        from steptool_agents.models.loading import TINY

        _Handler.tokenizer = AutoTokenizer.from_pretrained(TINY)
        server = _Server(("127.0.0.1", 0), _Handler)
        os.write(writer, str(server.server_port).encode())
        os.close(writer)
        server.serve_forever()

    process = fork(serve)
    os.close(writer)
    with os.fdopen(reader) as said:
        port = said.read()
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        end(process)
        os.waitpid(process, 0)
