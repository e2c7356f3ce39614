from __future__ import annotations

import inspect
import pickle

import gymnasium as gym
import pytest

import steptool_env
from steptool_env import errors
from steptool_env.errors import DataError, InvalidArgument, MissingExtra, StepToolError, UnknownName, did_you_mean, missing_extra

TREE = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, StepToolError)]
EXAMPLES = [
    UnknownName("suite", "wrlds", ["worlds", "bfcl"]),
    MissingExtra("suite 'bfcl'", "bfcl-eval", "pip install --no-deps bfcl-eval"),
    DataError("tasks.jsonl", 17, "no field 'id'"),
    InvalidArgument("max_steps must be a positive integer, got 0"),
]


def test_every_error_is_public_documented_and_of_one_tree() -> None:
    assert len(TREE) >= 9
    for kind in TREE:
        assert kind.__name__ in errors.__all__
        assert kind.__doc__
        assert kind.__name__ in (errors.__doc__ or ""), f"{kind.__name__} is missing in the tree that the module draws"


def test_did_you_mean() -> None:
    assert did_you_mean("wrlds", ["worlds", "bfcl"]) == " Did you mean 'worlds'?"
    assert did_you_mean("zzz", ["worlds", "bfcl"]) == ""
    assert did_you_mean("anything", []) == ""
    assert did_you_mean("get_order" * 100_000, ["get_order"]) == ""  # at once, although the name has 900,000 characters


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: steptool_env.make_suite("wrlds"), ["unknown suite 'wrlds'", "Did you mean 'worlds'?", "Known: agentdojo, bfcl,"]),
        (lambda: steptool_env.make_suite("worlds", levl=2), ["option of suite 'worlds'", "'levl'", "Did you mean 'level'?"]),
        (lambda: steptool_env.make_suite(7), ["got 7", "a name or a TaskSuite", "worlds"]),
        (lambda: steptool_env.make_shaper("finall"), ["unknown shaper 'finall'", "Did you mean 'final'?", "steptool"]),
        (lambda: steptool_env.make_shaper(7), ["got 7", "a name or a callable", "steptool"]),
        (lambda: steptool_env.make_format("hermse"), ["unknown call format 'hermse'", "Did you mean 'hermes'?", "react"]),
        (lambda: steptool_env.make_format(7), ["got 7", "a name or a CallFormat", "hermes"]),
        (lambda: gym.make("StepTool-v0", max_steps=0), ["max_steps", "positive integer", "got 0"]),
        (lambda: gym.make("StepTool-v0", shaper="stepool"), ["'stepool'", "Did you mean 'steptool'?"]),
    ],
)
def test_messages_give_the_value_what_was_expected_and_what_exists(make: object, parts: list[str]) -> None:
    assert callable(make)
    with pytest.raises(StepToolError) as caught:
        make()
    for part in parts:
        assert part in str(caught.value)


def test_a_missing_package_says_what_to_type_and_a_broken_file_says_where() -> None:
    assert "pip install --no-deps bfcl-eval" in str(EXAMPLES[1])
    assert str(EXAMPLES[2]) == "tasks.jsonl, line 17: no field 'id'"


@pytest.mark.parametrize(
    ("module", "extra", "command"),
    [
        ("torch.utils.tensorboard", "", "pip install 'steptool-env[agents]'"),
        ("PIL", "", "pip install 'steptool-env[video]'"),
        ("torch", "sb3", "pip install 'steptool-env[sb3]'"),
    ],
)
def test_a_failed_import_becomes_the_command_of_its_extra(module: str, extra: str, command: str) -> None:
    error = missing_extra("training", ModuleNotFoundError("not there", name=module), extra)
    assert isinstance(error, MissingExtra)
    assert str(error) == f"training needs the package {module.split('.')[0]!r}, which is not installed. Install it with: {command}"


@pytest.mark.parametrize("fault", [ModuleNotFoundError(name="my_own"), ModuleNotFoundError(), ImportError("libcudart.so.12: cannot open", name="torch")])
def test_other_failed_imports_stay_what_they_are(fault: ImportError) -> None:
    assert missing_extra("training", fault) is fault


def test_errors_can_be_caught_as_what_python_would_raise() -> None:
    assert isinstance(EXAMPLES[0], LookupError)
    assert isinstance(EXAMPLES[1], ImportError)
    assert isinstance(EXAMPLES[3], ValueError)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_cross_process_borders(error: StepToolError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
