"""``HandOver``: after an update, the policy's weights go to the model servers that play, through a folder.

The folder must have the same path for the trainer and the servers: one machine, or a shared file system.

- Adapters (``lora_rank > 0``) are saved as ``peft`` saves them, and loaded under a new name, one for each update:
  ``POST /v1/load_lora_adapter`` and, for the one before, ``/v1/unload_lora_adapter``. A server caches keys and values by
  adapter, so none of them outlives its weights. vLLM needs ``--enable-lora``, ``--max-lora-rank`` of at least the rank,
  ``--max-loras 2`` and the environment variable ``VLLM_ALLOW_RUNTIME_LORA_UPDATING=True``
  (docs.vllm.ai/en/latest/features/lora).
- All weights (``lora_rank = 0``) are saved as ``transformers`` saves them; ``POST /collective_rpc`` with ``reload_weights`` and
  ``weights_path``, then ``/reset_prefix_cache``, which vLLM offers in its development mode (``VLLM_SERVER_DEV_MODE=1``).

What it leaves out: sending weights from GPU to GPU, and servers that play with weights of several updates at a time.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from peft import PeftModel

from steptool_env.errors import InvalidArgument, Unavailable

from ..models.export import export_model
from ..models.language_model import LanguageModel
from .client import ChatClient, Failure

__all__ = ["HandOver"]

logger = logging.getLogger(__name__)


class HandOver:
    """Hands weights over to servers. Not safe to use from several threads.

    Args:
        servers: The endpoints, at least one; their addresses end in ``/v1``.
        folder: Where the weights are saved, in one folder for each update; the newest and the one before it are kept.
        model: Name of the model on the servers; the names of adapters begin with it.

    Raises:
        InvalidArgument: There is no server, or the name of the model is empty.
    """

    def __init__(self, servers: Sequence[ChatClient], folder: str | os.PathLike[str], model: str) -> None:
        if not servers or not model:
            raise InvalidArgument(f"expected at least one server and the name of the model there, got {len(servers)} servers and {model!r}")
        self.servers, self.folder, self.model = list(servers), Path(folder).absolute(), model
        self.failed = 0
        """Number of handovers that a server did not take."""
        self._run = secrets.token_hex(4)  # tells apart the adapters of two runs, or of one that was restarted
        self._loaded: dict[ChatClient, str] = {}
        """The adapter that each server has loaded."""

    def __call__(self, lm: LanguageModel, update: int) -> tuple[str, list[ChatClient]]:
        """Hand the weights over.

        Args:
            lm: The model whose weights are handed over.
            update: Number of the update, a new one for each call; part of the names of folder and adapter.

        Returns:
            The model's name for requests (``"model"``), and the servers that took the weights. The others are counted, keep the
            weights that they have, and are tried again next time.

        Raises:
            Unavailable: No server took the weights.
        """
        adapters = isinstance(lm.model, PeftModel)
        name = f"{self.model}-{self._run}-{update}" if adapters else self.model
        path = export_model(lm, self.folder / f"update-{update}")
        with ThreadPoolExecutor(max_workers=len(self.servers)) as pool:
            send = self._adapter if adapters else self._weights
            answers = list(pool.map(lambda server: send(server, name, path), self.servers))
        failures = [answer for answer in answers if answer is not None]
        self.failed += len(failures)
        for failure in failures:
            logger.warning("a server did not take the weights of update %d: %s", update, failure)
        if len(failures) == len(self.servers):
            raise Unavailable(f"no server took the weights of update {update} ({path}): {failures[0]}")
        self._tidy(update)
        return name, [server for server, answer in zip(self.servers, answers, strict=True) if answer is None]

    def _adapter(self, server: ChatClient, name: str, path: Path) -> Failure | None:
        answer = server.post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)})
        if isinstance(answer, Failure) and "already been loaded" not in str(answer):  # by an attempt whose answer got lost
            return answer
        before = self._loaded.get(server)
        self._loaded[server] = name
        if before not in (None, name):
            server.post("/v1/unload_lora_adapter", {"lora_name": before})  # it fails on a server that was restarted, which does no harm
        return None

    def _weights(self, server: ChatClient, name: str, path: Path) -> Failure | None:
        call = {"method": "reload_weights", "kwargs": {"weights_path": str(path)}}
        for address, body in (("/collective_rpc", call), ("/reset_prefix_cache", {})):
            if isinstance(answer := server.post(address, body), Failure):
                return answer
        return None

    def _tidy(self, update: int) -> None:
        """Delete the weights of all updates but this one and the newest before it."""
        numbers: dict[int, Path] = {}
        for path in self.folder.glob("update-*"):
            number = path.name.removeprefix("update-")
            if number.isdigit() and int(number) != update:
                numbers[int(number)] = path
        for old in sorted(numbers)[:-1]:
            shutil.rmtree(numbers[old], ignore_errors=True)
