"""Settings: parts, names, precedence, and that what is wrong with them shows before a run begins."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from steptool_agents.algorithms import algorithm_settings
from steptool_agents.cli.options import value_of
from steptool_agents.config import Config, Layer, configure, preset
from steptool_agents.config.config import PARTS, locate
from steptool_env.errors import InvalidArgument, UnknownName
from steptool_env.tasks.worlds import LEVELS, Worlds


def test_settings_survive_json() -> None:
    config = Config.of(updates=3, suite_options={"level": 4, "depth": [1, 3]}, max_steps=7, bfloat16=True)
    assert Config.from_dict(json.loads(json.dumps(config.as_dict()))) == config
    assert Config.from_dict({}) == Config() == Config.of()


def test_names_and_parts() -> None:
    config = Config.of(lr=0.5, **{"model.name": "smollm2", "suite_options.level": 3}, run={"updates": 2})
    assert (config.learning.lr, config.model.name, config.run.updates) == (0.5, "smollm2", 2)
    assert config.task.suite_options == {"level": 3}, "a key within a value, over nothing: defaults are not merged into what a user says"
    assert config.replace(**{"suite_options.depth": [1, 1]}).task.suite_options == {"level": 3, "depth": [1, 1]}
    assert config.replace(suite_options={}).task.suite_options == {}
    assert config.flat()["learning.lr"] == 0.5
    assert Config.of(model="smollm2") == Config.of(model={"name": "smollm2"}) == Config.of(name="smollm2"), "what is called model is its name"
    for part, kind in PARTS.items():
        for name in kind.model_fields:
            assert locate(name) == (part, name, []), "every name stands in one part only"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.1}, r"unknown setting 'learning_rate'.*Known: .*\blr\b"),
        ({"learning.lrr": 0.1}, r"unknown setting 'learning.lrr'. Did you mean 'learning.lr'\?"),
        ({"credit": "stepp"}, "unknown credit scheme 'stepp'. Did you mean 'step'"),
    ],
)
def test_a_name_that_does_not_exist(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownName, match=message):
        Config.of(**settings)


@pytest.mark.parametrize("name", ["episodes", "epochs", "minibatches", "demo_batch", "max_new_tokens", "token_budget", "eval_episodes", "eval_width"])
def test_what_must_be_at_least_one(name: str) -> None:
    part = locate(name)[0]
    assert getattr(getattr(Config.of(**{name: 1}), part), name) == 1
    with pytest.raises(InvalidArgument, match=f"{part}.{name} must be greater than or equal to 1, got 0"):
        Config.of(**{name: 0})


@pytest.mark.parametrize("name", ["seed", "updates", "demos", "demo_epochs", "lora_rank", "lr", "demo_lr", "kl", "entropy", "value_passes"])
def test_what_must_not_be_negative(name: str) -> None:
    Config.of(**{name: 0})
    with pytest.raises(InvalidArgument, match=f"{name} must be greater than or equal to 0, got -1"):
        Config.of(**{name: -1})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gamma": 1.5}, "learning.gamma must be less than or equal to 1, got 1.5"),
        ({"lam": -0.1}, "learning.lam must be greater than or equal to 0, got -0.1"),
        ({"temperature": 0}, "rollout.temperature must be greater than 0, got 0"),
        ({"clip": 0.0}, "learning.clip must be greater than 0, got 0.0"),
        ({"updates": "ten"}, "run.updates must be a valid integer, got 'ten'"),
        ({"updates": 2.5}, "run.updates must be a valid integer, got 2.5"),
        ({"updates": True}, "run.updates must be a valid integer, got True"),
        ({"lr": "fast"}, "learning.lr must be a valid number, got 'fast'"),
        ({"lr": float("nan")}, "learning.lr must be a finite number, got nan"),
        ({"model.name": 5}, "model.name must be a valid string, got 5"),
        ({"learning": 0.5}, "'learning' is a part of the settings; say which of them: learning.algo"),
        ({"suite_options": [1]}, r"task.suite_options must be a valid dictionary, got \[1\]"),
        ({"max_steps": "7"}, "task.max_steps must be a valid integer, got '7'"),
        ({"bfloat16": 1}, "model.bfloat16 must be a valid boolean, got 1"),
        ({"gradient_checkpointing": "some"}, "model.gradient_checkpointing must be"),
        ({"episodes": 6, "group": 4}, "episodes must be a multiple of group, got 6 episodes in groups of 4"),
        ({"servers": "http://127.0.0.1:1/v1", "constrained": True}, "set constrained to false"),
        ({"importance_cap": 0.0}, "learning.importance_cap must be greater than 0, got 0.0"),
        ({"overlap": 2, "servers": "http://127.0.0.1:1/v1"}, "rollout.overlap must be less than or equal to 1, got 2"),
        ({"overlap": 1}, "only servers can play while this process learns"),
    ],
    ids=str,
)
def test_values_that_do_not_fit(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Config.of(**values)


# ---------------------------------------------------------------- presets and precedence
@pytest.mark.parametrize("model", ["tiny", "smollm2", "some/model"])
@pytest.mark.parametrize("suite", ["worlds", "bfcl"])
def test_presets_are_settings(model: str, suite: str) -> None:
    config = Config.of(**preset(model, suite))
    assert (config.model.lora_rank > 0) == (model != "tiny")


@pytest.mark.parametrize("model", ["tiny", "smollm2"])
def test_demonstrations_leave_something_to_be_found(model: str) -> None:
    config = Config.of(**preset(model, "worlds"))
    assert max(config.warm_start.demo_options["depth"]) < Worlds(**config.task.suite_options).dials.depth[1]


def test_a_pretrained_model_reads_whole_records_of_all_domains() -> None:
    dials = Worlds(**Config.of(**preset("smollm2", "worlds")).task.suite_options).dials
    assert (dials.replies, dials.domains, dials.depth) == ("record", LEVELS[2].domains, (1, 4))


def test_the_options_of_one_suite_do_not_reach_another() -> None:
    config = Config.of(**preset("tiny", "bfcl"))
    assert "level" not in config.task.suite_options
    assert "depth" not in config.warm_start.demo_options


def test_another_level_brings_its_own_depths() -> None:
    assert "depth" in Config.of(**preset("tiny", "worlds", 2)).task.suite_options
    assert Worlds(**preset("smollm2", "worlds", level=1)["suite_options"]).dials.depth == LEVELS[1].depth
    config, _ = configure([Layer("option", {"suite_options.level": 3})], algorithm_settings)
    assert config.task.suite_options == {"level": 3, "replies": "field", "families": ["lookup", "change"], "domains": ["shop", "travel", "clinic"]}


def test_the_stronger_layer_wins() -> None:
    layers = [
        Layer("file", {"learning": {"algo": "grpo", "kl": 0.5}, "lr": 1.0, "epochs": 3}),
        Layer("option", {"model.name": "smollm2", "lr": 2.0, "suite_options.tools": 3}),
        Layer("--set", {"learning.lr": 3.0}),
    ]
    config, sources = configure(layers, algorithm_settings)
    assert (config.learning.algo, config.learning.credit, config.model.name) == ("grpo", "grpo", "smollm2")
    assert (config.learning.lr, config.learning.kl, config.learning.epochs) == (3.0, 0.5, 3)
    assert config.learning.minibatches == 1, "a pretrained model's, over the default"
    assert config.rollout.group == 4, "a pretrained model plays four episodes, also where the algorithm asks for eight of a task"
    assert config.task.suite_options == {**preset("smollm2", "worlds")["suite_options"], "tools": 3}
    assert sources["learning.lr"] == "--set"
    assert sources["learning.kl"] == "file"
    assert sources["learning.credit"] == "algorithm grpo"
    assert sources["model.lora_rank"] == "preset for smollm2 on worlds"
    assert "run.seed" not in sources


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().learning.lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("typed", "value"),
    [(".5", 0.5), ("-.5e-1", -0.05), ("1.", 1.0), ("0.1", 0.1), ("3", 3), ("null", None), ("1.2.3", "1.2.3"), (".", "."), ("a.b", "a.b"), ("", "")],
)
def test_a_value_as_it_is_typed(typed: str, value: Any) -> None:
    found = value_of(typed, "--set x")
    assert (found, type(found)) == (value, type(value))


def test_keywords_of_what_is_chosen_by_name() -> None:
    config = Config.of(**{"shaper.alpha": 0.02, "task.suite.level": 3, "algo.beta": 0.5})
    assert (config.task.shaper, config.task.shaper_options, config.learning.algo_options) == ("steptool", {"alpha": 0.02}, {"beta": 0.5})
    assert config.task.suite_options["level"] == 3
    with pytest.raises(UnknownName, match=r"learning\.shaper"):
        Config.of(**{"learning.shaper.alpha": 1})
