"""Settings: what is wrong with them shows before a run begins."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from steptool_agents.config import Config
from steptool_env.errors import InvalidArgument, UnknownName
from steptool_env.tasks.worlds import LEVELS, Worlds


def test_settings_survive_json() -> None:
    config = Config(updates=3, suite_options={"level": 4, "depth": [1, 3]}, max_steps=7, bfloat16=True)
    assert Config.from_dict(json.loads(json.dumps(config.as_dict()))) == config
    assert Config.from_dict({}) == Config()


def test_a_setting_that_does_not_exist() -> None:
    with pytest.raises(UnknownName, match=r"unknown setting 'learning_rate'.*Known: .*\blr\b"):
        Config.from_dict({"learning_rate": 0.1})


@pytest.mark.parametrize("name", ["episodes", "epochs", "minibatches", "demo_batch", "max_new_tokens", "token_budget", "eval_episodes", "eval_width"])
def test_what_must_be_at_least_one(name: str) -> None:
    assert getattr(Config.from_dict({name: 1}), name) == 1
    with pytest.raises(InvalidArgument, match=f"{name} must be at least 1, got 0"):
        Config.from_dict({name: 0})


@pytest.mark.parametrize("name", ["seed", "updates", "demos", "demo_epochs", "lora_rank", "lr", "demo_lr", "kl", "entropy", "value_passes"])
def test_what_must_not_be_negative(name: str) -> None:
    Config.from_dict({name: 0})
    with pytest.raises(InvalidArgument, match=f"{name} must not be negative, got -1"):
        Config.from_dict({name: -1})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gamma": 1.5}, r"gamma must lie in \[0, 1\], got 1.5"),
        ({"lam": -0.1}, r"lam must lie in \[0, 1\], got -0.1"),
        ({"temperature": 0}, "temperature must be positive, got 0"),
        ({"clip": 0.0}, "clip must be positive, got 0.0"),
        ({"updates": "ten"}, "updates must be of type int, got 'ten'"),
        ({"updates": 2.5}, "updates must be of type int, got 2.5"),
        ({"updates": True}, "updates must be of type int, got True"),
        ({"lr": "fast"}, "lr must be of type float, got 'fast'"),
        ({"lr": float("nan")}, "lr must be finite, got nan"),
        ({"model": 5}, "model must be of type str, got 5"),
        ({"suite_options": [1]}, r"suite_options must be of type dict, got \[1\]"),
        ({"max_steps": "7"}, r"max_steps must be of type int \| None, got '7'"),
        ({"bfloat16": 1}, r"bfloat16 must be of type bool \| None, got 1"),
    ],
)
def test_values_that_do_not_fit(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Config.from_dict(values)


@pytest.mark.parametrize("model", ["tiny", "smollm2", "some/model"])
@pytest.mark.parametrize("suite", ["worlds", "bfcl"])
def test_presets_are_settings(model: str, suite: str) -> None:
    config = Config.from_dict(Config.preset(model, suite))
    assert (config.lora_rank > 0) == (model != "tiny")


@pytest.mark.parametrize("model", ["tiny", "smollm2"])
def test_demonstrations_leave_something_to_be_found(model: str) -> None:
    config = Config.from_dict(Config.preset(model, "worlds"))
    assert max(config.demo_options["depth"]) < Worlds(**config.suite_options).dials.depth[1]


def test_a_pretrained_model_reads_whole_records_of_all_domains() -> None:
    config = Config.from_dict(Config.preset("smollm2", "worlds"))
    dials = Worlds(**config.suite_options).dials
    assert (dials.replies, dials.domains, dials.depth) == ("record", LEVELS[2].domains, (1, 4))


def test_the_options_of_one_suite_do_not_reach_another() -> None:
    config = Config.from_dict(Config.preset("tiny", "bfcl"))
    assert "level" not in config.suite_options
    assert "depth" not in config.demo_options


def test_a_pretrained_model_gets_adapters() -> None:
    assert Config.from_dict(Config.preset("smollm2", "worlds")).lora_rank > 0
    assert Config.from_dict(Config.preset("tiny", "worlds")).lora_rank == 0


def test_settings_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().lr = 1.0  # type: ignore[misc]
