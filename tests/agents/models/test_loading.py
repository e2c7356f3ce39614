"""Models by name: what exists, and what is said about what does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from steptool_agents.models import loading
from steptool_agents.models.loading import MODELS, TINY, load_model, pick_device
from steptool_env.errors import InvalidArgument, UnknownName


def test_the_embedded_model() -> None:
    lm = load_model("tiny")
    assert sum(parameter.numel() for parameter in lm.parameters()) < 3_000_000
    assert all(parameter.dtype == torch.float32 for parameter in lm.parameters())
    assert not lm.autocast
    assert lm.value_head.value.weight.abs().sum() == 0
    assert lm.config.steptool_prompt == "terse"


def test_a_folder() -> None:
    a, b = load_model("tiny"), load_model(str(TINY))
    for (name, one), other in zip(a.named_parameters(), b.parameters(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.parametrize("name", ["tinny", "no/such-model", "a/b/c/d", "what is this?"])
def test_a_name_that_does_not_exist(name: str) -> None:
    with pytest.raises(UnknownName, match="unknown model") as caught:
        load_model(name)
    assert all(known in str(caught.value) for known in (*MODELS, "a folder"))
    assert "\n" not in str(caught.value)


def test_a_slip_in_the_name_of_a_model_asks_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "AutoTokenizer", None)
    with pytest.raises(UnknownName, match="Did you mean 'smollm2'"):
        load_model("smolm2")


def test_a_folder_that_holds_no_model(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="holds no causal language model") as caught:
        load_model(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["{", "{}", json.dumps({"model_type": "of tomorrow"})])
def test_a_folder_with_a_broken_config(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InvalidArgument, match="holds no causal language model"):
        load_model(str(tmp_path))


def test_weights_that_are_broken(tmp_path: Path) -> None:
    for file in TINY.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[: 1000 if file.suffix == ".safetensors" else None])
    with pytest.raises(InvalidArgument, match="holds no causal language model"):
        load_model(str(tmp_path))


def adapters(seed: int) -> dict[str, Any]:
    return {name: weight.detach() for name, weight in load_model("tiny", lora_rank=2, seed=seed).trainable().items()}


def test_adapters_follow_the_seed() -> None:
    one, same, other = adapters(1), adapters(1), adapters(2)
    assert all("lora_" in name or "value_head" in name for name in one)
    assert all(torch.equal(weight, same[name]) for name, weight in one.items())
    assert any(not torch.equal(weight, other[name]) for name, weight in one.items())


def test_a_negative_rank() -> None:
    with pytest.raises(InvalidArgument, match="lora_rank must be 0"):
        load_model("tiny", lora_rank=-1)


def test_the_device_that_is_picked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto", "smollm2") == pick_device("auto", "tiny") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto", "tiny") == torch.device("cpu")
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)  # which asks whether the device is there
    assert pick_device("auto", "smollm2") == torch.device("cuda:0")
    assert pick_device("cuda:3", "tiny") == torch.device("cuda:3")
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert pick_device("auto", "smollm2") == pick_device("cuda", "tiny") == torch.device("cuda:2")


@pytest.mark.parametrize("name", ["banana", "cuda:77", "cuda:x"])
def test_a_device_that_is_not_there(name: str) -> None:
    with pytest.raises(InvalidArgument, match=f"device '{name}' cannot be used here.*CUDA cards; device=auto takes what there is") as caught:
        load_model("tiny", device=name)
    assert "\n" not in str(caught.value)
