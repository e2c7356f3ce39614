"""Models that come with packages: converted once, verified, made again where the copy is damaged. The packages are stand-ins with a real GGUF file."""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path

import pytest
import torch
from ggufs import make_package, write_gguf

from steptool_agents.models.loading import MODELS, load_model
from steptool_agents.models.packaged import PACKAGED, cache_folder, converted
from steptool_env.errors import InvalidArgument, MissingExtra


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in parts, as that of ``gemma3-270m``, under the name ``stand-in``."""
    name = f"stand_in_{abs(hash(str(tmp_path)))}"  # modules are kept by name
    monkeypatch.setenv("STEPTOOL_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setitem(PACKAGED, "stand-in", PACKAGED["gemma3-270m"]._replace(package="stand-in", module=name, command="pip install stand-in"))
    folder = make_package(tmp_path / "site", name)
    importlib.invalidate_caches()
    return folder


def times(package: Path) -> int:
    """Return how often the package was asked for its file."""
    return len(list(package.glob("assembled*")))


def test_converted_once(package: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first, again = load_model("stand-in", bfloat16=False), load_model("stand-in", bfloat16=False)
    assert times(package) == 1
    assert "Writing" not in capfd.readouterr().err
    assert first.config.model_type == "llama"
    for (name, one), other in zip(first.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other), name
    assert torch.equal(first.model.lm_head.weight, first.model.lm_head.weight.bfloat16().float()), "kept in bfloat16, used in float32"
    assert first.model.lm_head.weight.std() > 0.5, "these are the file's weights"
    assert first.tokenizer.decode(first.tokenizer("that", add_special_tokens=False).input_ids) == "that"
    assert [path.name for path in cache_folder().iterdir()] == ["stand-in"], "what was assembled is gone"


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["flipped", "gone"])
def test_a_damaged_copy_is_made_again(package: Path, caplog: pytest.LogCaptureFixture, file: str, damage: str) -> None:
    path = converted("stand-in") / file
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    with caplog.at_level(logging.WARNING, "steptool_agents.models.packaged"):
        assert (converted("stand-in") / file).read_bytes() == data
    assert times(package) == 2
    assert "it is made again from the package stand-in" in caplog.text
    assert converted("stand-in") == path.parent
    assert times(package) == 2


def test_a_copy_needs_no_package(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = converted("stand-in")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None)
    assert converted("stand-in") == folder
    (folder / "config.json").unlink()
    with pytest.raises(MissingExtra, match=r"model 'stand-in' needs the package 'stand-in', which is not installed. Install it with: pip install stand-in"):
        converted("stand-in")


def test_a_conversion_that_fails_leaves_nothing(package: Path) -> None:
    (package / "part1").write_bytes(b"")
    with pytest.raises(Exception, match=r".+"):
        load_model("stand-in")
    assert not list(cache_folder().iterdir())


def test_a_package_that_holds_the_file_is_not_imported(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = PACKAGED["stand-in"].module
    monkeypatch.setitem(PACKAGED, "stand-in", PACKAGED["smollm2"]._replace(module=module))
    (package / "__init__.py").write_text("raise ImportError('it would take what it depends on')\n")
    write_gguf(package / "weights.gguf")
    assert load_model("stand-in", bfloat16=False).config.model_type == "llama"
    assert module not in sys.modules


@pytest.mark.parametrize("name", PACKAGED)
@pytest.mark.parametrize("missing", ["the package", "gguf"])
def test_without_its_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, missing: str) -> None:
    monkeypatch.setenv("STEPTOOL_CACHE", str(tmp_path))
    module = PACKAGED[name].module if missing == "the package" else missing
    there = importlib.util.spec_from_file_location("there", __file__)
    monkeypatch.setattr(importlib.util, "find_spec", lambda wanted, *_: None if wanted == module else there)
    with pytest.raises(MissingExtra) as caught:
        load_model(name)
    package = PACKAGED[name].package if missing == "the package" else missing
    assert f"{package!r}, which is not installed. Install it with: pip install 'steptool-env[{name}]'" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_their_names_are_known() -> None:
    assert set(PACKAGED) == set(MODELS) - {"tiny"}
    with pytest.raises(InvalidArgument, match="lora_rank"):
        load_model("gemma3-270m", lora_rank=-1)


def test_where_converted_models_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STEPTOOL_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("STEPTOOL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "steptool"
