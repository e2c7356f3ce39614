"""``HandOver``: after an update, the policy's weights go to the model servers that play, by way of a folder.

The folder must be at the same path for the trainer and the servers: one machine, or a shared file system.

- Adapters (``lora_rank > 0``) are saved as ``peft`` saves them, and loaded under a new name, one for each update:
  ``POST /v1/load_lora_adapter`` and, for the one before, ``/v1/unload_lora_adapter``. A server keeps keys and values apart by
  adapter, so none of them outlives its weights. vLLM needs ``--enable-lora``, ``--max-lora-rank`` of at least the rank,
  ``--max-loras 2`` and the environment variable ``VLLM_ALLOW_RUNTIME_LORA_UPDATING=True``
  (docs.vllm.ai/en/latest/features/lora).
- All weights (``lora_rank = 0``) are saved as ``transformers`` saves them; ``POST /collective_rpc`` with ``reload_weights`` and
  ``weights_path``, then ``/reset_prefix_cache``, which vLLM offers in its development mode (``VLLM_SERVER_DEV_MODE=1``).

What it leaves out: sending weights from card to card, and servers that play with weights of several updates at a time.
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
    """Gives weights to servers. Not safe to use from several threads.

    Args:
        servers: The endpoints, at least one; their addresses end in ``/v1``.
        folder: Where the weights go, one folder an update within it; the newest and the one before it are kept.
        model: What the servers call the model; adapters get a name of their own behind it.

    Raises:
        InvalidArgument: There is no server, or the model has no name.
    """

    def __init__(self, servers: Sequence[ChatClient], folder: str | os.PathLike[str], model: str) -> None:
        if not servers or not model:
            raise InvalidArgument(f"expected at least one server and the name of the model there, got {len(servers)} servers and {model!r}")
        self.servers, self.folder, self.model = list(servers), Path(folder).absolute(), model
        self.failed = 0
        """How often a server did not take weights."""
        self._run = secrets.token_hex(4)  # two runs, or one that was started again, must not take each other's adapters for their own
        self._loaded: dict[ChatClient, str] = {}
        """The adapter that each server holds."""

    def __call__(self, lm: LanguageModel, update: int) -> tuple[str, list[ChatClient]]:
        """Hand the weights over.

        Args:
            lm: Whose weights.
            update: A number that no other weights have had; part of the names of folder and adapter.

        Returns:
            What to ask the servers for (``"model"`` of a request), and those that hold these weights. The others are
            counted, left alone with the weights that they have, and tried again next time.

        Raises:
            Unavailable: No server took the weights.
        """
        adapters = isinstance(lm.model, PeftModel)
        name = f"{self.model}-{self._run}-{update}" if adapters else self.model
        path = export_model(lm, self.folder / f"update-{update}")
        with ThreadPoolExecutor(max_workers=len(self.servers)) as pool:
            give = self._adapter if adapters else self._weights
            answers = list(pool.map(lambda server: give(server, name, path), self.servers))
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
        if isinstance(answer, Failure) and "already been loaded" not in str(answer):  # by an attempt whose answer was lost
            return answer
        before = self._loaded.get(server)
        self._loaded[server] = name
        if before not in (None, name):
            server.post("/v1/unload_lora_adapter", {"lora_name": before})  # a server that was started anew has none to unload
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
