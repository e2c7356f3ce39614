"""Model servers on loopback that hold a model of their own, load what they are told to, and speak as vLLM does, as far as it is asked here."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from lms import language_model
from peft import LoraConfig, PeftModel, get_peft_model
from servers import Reply, Request, serving
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from steptool_agents.models.language_model import LanguageModel
from steptool_agents.servers.client import ChatClient
from steptool_agents.servers.weights import HandOver

__all__ = ["Server", "model", "running"]


def model(rank: int, seed: int = 0) -> LanguageModel:
    """Return a small model with adapters that say something; the base is always the same."""
    torch.manual_seed(0)
    tokenizer = language_model().tokenizer
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    base: Any = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes, max_position_embeddings=2048, initializer_range=0.2, eos_token_id=1))
    base.config.steptool_prompt = "terse"
    torch.manual_seed(seed)
    if rank:
        base = get_peft_model(base, LoraConfig(r=rank, target_modules=["q_proj", "up_proj"], init_lora_weights=False))
    lm = LanguageModel(base, tokenizer)
    lm.eval()
    return lm


class Server:
    """A base model, adapters by name, completions from token ids.

    It samples as ``Writing`` does: one generator per episode, seeded once, one number per token. An episode is known by its seed, to which
    requests add the number of tokens before the action. Each request is computed alone, so that the same requests get the same answers.
    """

    lock = threading.Lock()
    """Of all servers: while transformers loads weights, it patches its own classes, and two loads side by side leave them patched."""

    def __init__(self, lm: LanguageModel | None = None) -> None:
        self.lm = lm or model(0)
        self.draws: dict[int, tuple[int, random.Random]] = {}
        """Seed of an episode -> tokens of its first request, and its generator."""
        self.played: list[str] = []
        """The weights of each completion, by the name of their folder."""
        self.weights = ""
        self.adapters: dict[str, Path] = {}
        self.asked: list[str] = []
        self.dead = False
        self.dying = -1
        """It dies after so many more requests."""

    def __call__(self, request: Request) -> Reply:
        body = json.loads(request.body)
        with self.lock:
            self.asked.append(request.path)
            self.dead = self.dead or self.dying == 0
            self.dying -= 1
            if self.dead:
                return 500, {}, json.dumps({"error": {"message": "engine dead"}})
            return getattr(self, request.path.rsplit("/", 1)[-1])(body)  # type: ignore[no-any-return]

    def load_lora_adapter(self, body: dict[str, Any]) -> Reply:
        if body["lora_name"] in self.adapters:
            return 400, {}, json.dumps({"error": {"message": f"The lora adapter '{body['lora_name']}' has already been loaded."}})
        if not (Path(body["lora_path"]) / "adapter_model.safetensors").is_file():
            return 404, {}, json.dumps({"error": {"message": "no adapter found"}})
        self.adapters[body["lora_name"]] = Path(body["lora_path"])
        return 200, {}, f"Success: LoRA adapter '{body['lora_name']}' added successfully."

    def unload_lora_adapter(self, body: dict[str, Any]) -> Reply:
        return (200, {}, "Success") if self.adapters.pop(body["lora_name"], None) else (404, {}, "cannot be found")

    def collective_rpc(self, body: dict[str, Any]) -> Reply:
        assert body["method"] == "reload_weights"
        self.lm.model = AutoModelForCausalLM.from_pretrained(body["kwargs"]["weights_path"])
        self.weights = Path(body["kwargs"]["weights_path"]).name
        return 200, {}, json.dumps({"results": [None]})

    def reset_prefix_cache(self, body: dict[str, Any]) -> Reply:
        return 200, {}, ""

    @torch.no_grad()
    def completions(self, body: dict[str, Any]) -> Reply:
        if body["model"] != "m" and body["model"] not in self.adapters:
            return 404, {}, json.dumps({"error": {"message": f"The model `{body['model']}` does not exist."}})
        network: Any = self.lm.model
        if body["model"] in self.adapters:
            network = PeftModel.from_pretrained(network, self.adapters[body["model"]])
            self.weights = self.adapters[body["model"]].name
        self.played.append(self.weights)
        ids, said, logprobs = list(body["prompt"]), list[int](), list[float]()
        seed = body["seed"] - len(ids)
        first, draws = self.draws.get(seed, (len(ids), random.Random(seed)))
        if len(ids) <= first:  # it begins, or begins once more
            draws = random.Random(seed)
        self.draws[seed] = min(first, len(ids)), draws
        while len(said) < body["max_tokens"]:
            row = torch.log_softmax(network(torch.tensor([ids + said])).logits[0, -1] / body["temperature"], -1)
            masses = row.exp().cumsum(-1)
            said.append(int(torch.searchsorted(masses, min(draws.random(), 1 - 2.0**-23) * masses[-1], right=True)))
            logprobs.append(float(row[said[-1]]))
            if said[-1] in body["stop_token_ids"] or any(stop in self.lm.tokenizer.decode(said) for stop in body["stop"]):
                break
        if network is not self.lm.model:
            network.unload()
        return 200, {}, json.dumps({"choices": [{"text": "", "token_ids": said, "logprobs": {"token_logprobs": logprobs}}]})


@contextmanager
def running(count: int, folder: Path) -> Iterator[tuple[list[Server], HandOver]]:
    servers = [Server() for _ in range(count)]
    for server in servers:
        server.draws = servers[0].draws  # episodes move from one to another
    with ExitStack() as stack:
        clients = [ChatClient(f"http://{stack.enter_context(serving(server))}/v1", attempts=2, backoff=0.0) for server in servers]
        yield servers, HandOver(clients, folder, "m")
        for client in clients:
            client.close()
