"""``HandOver``: after an update, the policy's weights go to the model servers that play, through a folder.

The folder must have the same path for the trainer and the servers: one machine, or a shared file system. The weights of an update lie
in a folder of their own, under a name that is never used again, which appears complete or not at all; servers are told its name after that.

- Adapters (``lora_rank > 0``) are saved as ``peft`` saves them, and loaded under a new name, one for each update:
  ``POST /v1/load_lora_adapter`` and, for the one before, ``/v1/unload_lora_adapter``. A server caches keys and values by
  adapter, so none of them outlives its weights. vLLM needs ``--enable-lora``, ``--max-lora-rank`` of at least the rank,
  ``--max-loras 2`` and the environment variable ``VLLM_ALLOW_RUNTIME_LORA_UPDATING=True``
  (docs.vllm.ai/en/latest/features/lora).
- All weights (``lora_rank = 0``) are saved as ``transformers`` saves them; ``POST /collective_rpc`` with ``reload_weights`` and
  ``weights_path``, then ``/reset_prefix_cache``, which vLLM offers in its development mode (``VLLM_SERVER_DEV_MODE=1``). Where the output
  projection is the input embedding, vLLM 0.32 on a CPU goes on with the old projection: it must be started with a copy that holds the two apart
  (docs/scaling.md), which is why the projection is saved under its own name, too.

With several processes the main one hands the weights over, and the others wait for it and are told who took them. Servers come and go:
one that did not take the weights of the last update, or stopped answering since, or is new, is asked in the background, and joins
whenever it has them; nobody waits for it. Only if no server is left does the run wait for one.

What it leaves out: sending weights from GPU to GPU, and servers that play with weights of several updates at a time.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from pathlib import Path

from peft import PeftModel

from steptool_env.errors import InvalidArgument, Unavailable

from ..models.export import export_model
from ..models.language_model import LanguageModel
from ..parallel import processes
from ..parallel.background import background
from .client import ChatClient, Failure
from .roster import Roster

__all__ = ["HandOver"]

logger = logging.getLogger(__name__)

SLOWEST = 60.0
"""Seconds that a server which is relied on gets beyond the first one (and twice as long as that took), before the rollout begins without it."""
GRACE = 1.0
"""Seconds that one which is not relied on gets beyond the others."""
PAUSE = 2.0
"""Seconds between two attempts while no server is left."""


class HandOver:
    """Hands weights over to servers. Not safe to use from several threads.

    Args:
        servers: A roster, or clients whose addresses end in ``/v1``, at least one.
        folder: Where the weights are saved, in one folder for each update; the newest and the one before it are kept.
        model: Name of the model on the servers; the names of adapters begin with it.
        patience: Seconds to wait for a server, when none takes the weights any more; the first time, it is a wrong address.

    Raises:
        InvalidArgument: There is no server, or the name of the model is empty.
    """

    def __init__(self, servers: Roster | Sequence[ChatClient], folder: str | os.PathLike[str], model: str, *, patience: float = 0.0) -> None:
        self.roster = servers if isinstance(servers, Roster) else Roster(servers)
        if not model:
            raise InvalidArgument("expected the name of the model on the servers, got an empty one")
        self.folder, self.model, self.patience = Path(folder).absolute(), model, patience
        self.failed = 0
        """Number of handovers that a server did not take, or not in time for the rollout."""
        self._run = secrets.token_hex(4)  # tells apart the weights of two runs, or of one that was restarted
        self._loaded: dict[str, str] = {}
        """Endpoint -> the adapter that the server has loaded."""
        self._relied: set[str] | None = None
        """Endpoints that took the last weights and have answered since; None before the first handover, when all are waited for."""
        self._asked: dict[str, tuple[Path, Future[Failure | None]]] = {}
        """Endpoint -> the weights that it was asked to load, and what it said, or is still to say."""
        self._path = Path()
        """Where the newest weights are."""

    def __call__(self, lm: LanguageModel, update: int, lost: Collection[ChatClient] = ()) -> tuple[str, list[ChatClient]]:
        """Hand the weights over. All processes of a run call it, and all wait until it is done.

        Args:
            lm: The model whose weights are handed over.
            update: Number of the update, a new one for each call; part of the names of folder and adapter.
            lost: Servers that this process got no answer from since the last call.

        Returns:
            The model's name for requests (``"model"``), and the servers that took the weights. In the main process this list grows
            when another one takes them later. The others are counted, keep the weights that they have, and are tried again next time.

        Raises:
            Unavailable: No server took the weights.
        """
        gone = {endpoint for part in processes.gather([[server.endpoint for server in lost]]) for endpoint in part}
        number = f"{update}-{processes.tell(self._run)}"
        self._path = export_model(lm, self.folder / f"update-{number}", head=True)
        adapters = isinstance(lm.model, PeftModel)
        name = f"{self.model}-{number}" if adapters else self.model
        live: list[ChatClient] = []
        fault: Unavailable | None = None
        if processes.is_main():
            self._relied = None if self._relied is None else self._relied - gone
            try:
                self._send(live, self._adapter if adapters else self._weights, name)
            except Unavailable as unavailable:
                fault = unavailable
            self._tidy()
        endpoints, self.failed, fault = processes.tell(([server.endpoint for server in live], self.failed, fault))
        if fault is not None:
            raise fault
        return name, live if processes.is_main() else [self.roster.client(endpoint) for endpoint in endpoints]

    # ---------------------------------------------------------------- asking servers
    def _send(self, live: list[ChatClient], load: Callable[[ChatClient, str, Path], Failure | None], name: str) -> None:
        """Ask the servers to load the weights, and put those that have into ``live``, late ones later."""
        until = time.monotonic() + (self.patience if self._relied is not None else 0.0)
        path = self._path
        while True:
            answers: dict[ChatClient, Future[Failure | None]] = {}
            for server in self.roster.clients():
                asked, answer = self._asked.get(server.endpoint, (path, None))
                if answer is None or answer.done():
                    # One that was not there lately is asked once, and refuses at once if it still is not.
                    asker = server if self._relied is None or server.endpoint in self._relied else self.roster.client(server.endpoint, patient=False)
                    asked, answer = path, background(partial(load, asker, name, path), "steptool-handover")
                    self._asked[server.endpoint] = path, answer
                if asked == path:  # one that is still at the weights of an earlier update is left to itself
                    answers[server] = answer
            _wait([answer for server, answer in answers.items() if self._relied is None or server.endpoint in self._relied], list(answers.values()))
            took = [server for server, answer in answers.items() if answer.done() and answer.result() is None]
            failures = [failure for answer in answers.values() if answer.done() and (failure := answer.result()) is not None]
            for failure in failures:
                logger.warning("a server did not take the weights in %s: %s", path.name, failure)
            self._relied = {server.endpoint for server in took}
            if took:
                break
            if time.monotonic() >= until:
                raise Unavailable(f"no server took the weights ({path}): {failures[0] if failures else 'none answered'}")
            time.sleep(min(PAUSE, self.patience))
        self.failed += len(self.roster.clients()) - len(took)
        live += took
        for server, answer in answers.items():
            if server not in took:
                answer.add_done_callback(partial(self._join, live, server, path))

    def _join(self, live: list[ChatClient], server: ChatClient, path: Path, answer: Future[Failure | None]) -> None:
        """Let a server play that has taken the weights after the rollout began, if they are still the newest."""
        if answer.exception() is None and answer.result() is None and path == self._path and self._relied is not None:
            self._relied.add(server.endpoint)
            live.append(server)

    def _adapter(self, server: ChatClient, name: str, path: Path) -> Failure | None:
        answer = server.post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)})
        if isinstance(answer, Failure) and "already been loaded" not in str(answer):  # by an attempt whose answer got lost
            return answer
        before = self._loaded.get(server.endpoint)
        self._loaded[server.endpoint] = name
        if before not in (None, name):
            server.post("/v1/unload_lora_adapter", {"lora_name": before})  # it fails on a server that was restarted, which does no harm
        return None

    def _weights(self, server: ChatClient, name: str, path: Path) -> Failure | None:
        call = {"method": "reload_weights", "kwargs": {"weights_path": str(path)}}
        for address, body in (("/collective_rpc", call), ("/reset_prefix_cache", {})):
            if isinstance(answer := server.post(address, body), Failure):
                return answer
        return None

    def _tidy(self) -> None:
        """Delete the weights of all updates but the newest and the one before it."""
        folders = sorted((path for path in self.folder.glob("update-*") if path != self._path), key=lambda path: path.stat().st_mtime_ns)
        for old in folders[:-1]:
            shutil.rmtree(old, ignore_errors=True)


def _wait(relied: Sequence[Future[Failure | None]], everybody: Sequence[Future[Failure | None]]) -> None:
    """Wait for the servers that are relied on, or, if there is none, for the first success; never for one that hangs."""
    started = time.monotonic()
    pending = set(relied or everybody)
    while pending and all(answer.result() is not None for answer in everybody if answer.done()) and (relied or time.monotonic() < started + SLOWEST):
        _, pending = wait(pending, timeout=PAUSE, return_when=FIRST_COMPLETED)
    wait(relied, timeout=SLOWEST + 2 * (time.monotonic() - started))
    wait(everybody, timeout=GRACE)
