"""rft, eto, trajectory-dpo, archer-lite and algorithms of one's own: what they learn from, and that they learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lms import language_model, passes, trajectory
from measured import timeless
from pays import PAYS

from steptool_agents import ALGORITHMS, load_algorithm
from steptool_agents.algorithms import algorithm_settings
from steptool_agents.algorithms.archer_lite import Critics, Turns, credit_turns, encode, fit_critics
from steptool_agents.algorithms.eto import pair_with_expert
from steptool_agents.algorithms.rft import accepted
from steptool_agents.algorithms.trajectory_dpo import pair_up
from steptool_agents.config import Config, Layer, configure
from steptool_agents.learning.losses import dpo
from steptool_agents.learning.preference import prefer
from steptool_agents.runs.checkpoint import load_checkpoint
from steptool_agents.runs.run import Run
from steptool_agents.runs.trackers import read_metrics
from steptool_agents.trajectory import Trajectory
from steptool_env import SUITES
from steptool_env.errors import InvalidArgument, NotSupported, UnknownName
from steptool_env.tasks.worlds import Worlds
from steptool_env.types import Outcome

SMALL = Config.of(suite_options={"level": 1}, demos=8, demo_batch=4, updates=2, episodes=4, group=2, eval_episodes=2, eval_width=2, max_steps=3)


def ended(action: tuple[int, ...], solved: float, task: str = "t", steps: int = 1, **options: bool) -> Trajectory:
    made = trajectory([((10, 11), action)] * steps, [0.0] * (steps - 1) + [solved], task=task, **options)
    last = made.steps[-1]
    outcome = None if options else Outcome(solved)
    return replace(made, steps=(*made.steps[:-1], replace(last, transition=last.transition._replace(outcome=outcome))))


# ---------------------------------------------------------------- rft
def test_what_is_imitated() -> None:
    short, long, failed, other = ended((5,), 1.0), ended((6,), 1.0, steps=2), ended((7,), 0.5), ended((5,), 1.0, task="u")
    assert accepted([long, short, failed, short, other]) == [long, short, other]  # once each
    assert accepted([long, short, failed, other], shortest=True) == [short, other]
    assert accepted([failed, ended((5,), 0.0, masked_end=True)]) == []
    nothing = ended((8,), 0.0)
    assert accepted([failed, nothing, short, failed], "steps") == [failed, short]  # a part of the task earned something


def test_the_steps_that_earned_something_teach_without_a_verdict(tmp_path: Path) -> None:
    config = SMALL.replace(**{**algorithm_settings("rft"), "group": 2}, algo="rft", shaper=PAYS, updates=1)
    load_algorithm("rft")(config, tmp_path / "episodes")
    load_algorithm("rft")(config.replace(algo_options={"steps": True}), tmp_path / "steps")
    (solved,), (paid,) = read_metrics(tmp_path / "episodes"), read_metrics(tmp_path / "steps")
    assert (solved["kept"], paid["kept"]) == (0, 4)  # after so short a warm start every episode fails; every call is paid
    assert np.isnan(solved["loss"]) and paid["loss"] > 0.0


# ---------------------------------------------------------------- eto, trajectory-dpo
def test_failures_are_paired_with_the_expert() -> None:
    expert = {"t": ended((1,), 1.0), "u": ended((2,), 1.0, task="u")}
    made = [ended((6,), 0.0), ended((5,), 1.0), ended((7,), 0.5), ended((8,), 0.0, task="v"), ended((9,), 0.0, masked_end=True), ended((4,), 0.0, task="u")]
    assert pair_with_expert(made, expert, 4) == [(expert["t"], made[0]), (expert["t"], made[2]), (expert["u"], made[5])]
    assert pair_with_expert(made, expert, 1) == [(expert["t"], made[0]), (expert["u"], made[5])]
    assert pair_with_expert(made, {}, 4) == []


@pytest.mark.slow
def test_the_expert_costs_what_it_plays(tmp_path: Path) -> None:
    config = SMALL.replace(**{**algorithm_settings("eto"), "group": 2}, algo="eto", updates=1)
    own = load_algorithm("trajectory-dpo")(config.replace(algo="trajectory-dpo"), tmp_path / "own")
    expert = load_algorithm("eto")(config, tmp_path / "expert")
    (line,) = read_metrics(tmp_path / "expert")
    assert line["pairs"] > 0  # after so short a warm start every episode fails
    assert expert["env_steps"] > own["env_steps"]  # the same episodes, and the expert's


def test_eto_needs_an_expert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unsolved(Worlds):
        has_solution = False

    monkeypatch.setitem(SUITES, "unsolved", Unsolved)
    config = SMALL.replace(**{**algorithm_settings("eto"), "group": 2}, algo="eto", suite="unsolved", demos=0)
    with pytest.raises(NotSupported, match="eto needs an expert, and suite 'worlds' knows no solutions"):
        load_algorithm("eto")(config, tmp_path / "run")


def test_pairs_are_of_one_task() -> None:
    made = [ended((5,), 1.0), ended((6,), 0.0), ended((7,), 0.0), ended((5,), 1.0, task="u"), ended((8,), 0.0, task="v")]
    pairs = pair_up([*made, ended((9,), 0.0, masked_end=True)], 4, np.random.default_rng(0))
    assert len(pairs) == 1  # one success on t; u was never failed, v never solved
    assert pairs[0][0] == made[0]
    assert pairs[0][1] in made[1:3]
    assert len(pair_up([ended((k,), float(k % 2)) for k in range(20)], 3, np.random.default_rng(0))) == 3


def test_dpo_by_hand() -> None:
    # h = (-1 + 2) - (-3 + 2.5) = 1.5;  -log σ(½·1.5) = log(1 + e^-.75) = .38687
    loss, seen = dpo(torch.tensor([-1.0]), torch.tensor([-3.0]), torch.tensor([-2.0]), torch.tensor([-2.5]), 0.5)
    assert float(loss) == pytest.approx(0.38687, abs=1e-5)
    assert (float(seen["margin"]), float(seen["accuracy"])) == (1.5, 1.0)
    with pytest.raises(InvalidArgument, match="beta must be positive"):
        dpo(torch.zeros(1), torch.zeros(1), torch.zeros(1), torch.zeros(1), 0.0)
    with pytest.raises(InvalidArgument, match="rejected has shape"):
        dpo(torch.zeros(1), torch.zeros(2), torch.zeros(1), torch.zeros(1), 1.0)


@pytest.mark.parametrize("budget", [1, 10_000])
def test_what_is_preferred_becomes_more_likely(budget: int) -> None:
    lm = language_model()
    pairs = [(ended((20, 21), 1.0), ended((22,), 0.0)), (ended((20,), 1.0, "u"), ended((23, 24), 0.0, "u"))]
    config = Config.of(epochs=1, minibatches=1, token_budget=budget)
    optimizer = torch.optim.AdamW(lm.trainable().values(), lr=1e-3)
    first = prefer(passes(lm, config), optimizer, pairs, config.learning, np.random.default_rng(0), beta=0.1, imitation=0.0)
    assert first["loss"] == pytest.approx(np.log(2), abs=1e-5)  # the policy is its own reference: h = 0
    assert first["margin"] == pytest.approx(0, abs=1e-4)
    later = prefer(passes(lm, config), optimizer, pairs, config.replace(epochs=8).learning, np.random.default_rng(0), beta=0.1, imitation=0.0)
    assert later["margin"] > 0.1
    assert prefer(passes(lm, config), optimizer, [], config.learning, np.random.default_rng(0), beta=0.1, imitation=0.0) == {}


# ---------------------------------------------------------------- archer
def test_what_the_critics_see() -> None:
    lm = language_model()
    made = [trajectory([((10, 11), (12, 13)), ((14,), (15,))], [0.5, 1.0]), trajectory([((10,), (12,))], [2.0], masked_end=True)]
    weights = {name: parameter.detach().clone() for name, parameter in lm.trainable().items()}
    for budget in (1, 1000):
        turns = encode(passes(lm, Config.of(token_budget=budget)), made, weights)
        assert turns.reward.tolist() == [0.5, 1.0, 2.0]
        assert turns.not_done.tolist() == [1, 0, 0]
        assert turns.weight.tolist() == [1, 1, 0]
        with torch.no_grad():
            hidden = lm.hidden(torch.tensor([[10, 11, 12, 13, 14, 15]]))[0]
        torch.testing.assert_close(turns.state[:2], hidden[[1, 4]], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(turns.action[:2], hidden[[3, 5]], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(turns.next_state[0], turns.state[1])
        torch.testing.assert_close(turns.task[0], hidden[:2].mean(0), atol=1e-5, rtol=1e-4)


def test_the_critics_learn_what_a_call_is_worth() -> None:
    """In one state, one call earns 1 and another 0: V comes near to ½, their advantages to ±½; a first step inherits by γ."""
    generator = torch.Generator().manual_seed(0)
    start, then, good, bad, go = torch.randn(5, 8, generator=generator)
    rows = [(then, good, 1.0, 0.0), (then, bad, 0.0, 0.0), (start, go, 0.0, 1.0)] * 40
    turns = Turns(
        state=torch.stack([row[0] for row in rows]),
        action=torch.stack([row[1] for row in rows]),
        task=torch.zeros(len(rows), 8),
        next_state=torch.stack([then if row[3] else torch.zeros(8) for row in rows]),
        reward=torch.tensor([row[2] for row in rows]),
        not_done=torch.tensor([row[3] for row in rows]),
        weight=torch.ones(len(rows)),
    )
    critics = Critics(8)
    optimizer = torch.optim.AdamW([*critics.q.parameters(), *critics.v.parameters()], lr=1e-2)
    fit_critics(critics, optimizer, turns, turns, 0.9, np.random.default_rng(0), passes=150, tau=0.2)
    advantages, values = critics.advantages(turns[:3])
    assert advantages.tolist() == pytest.approx([0.5, -0.5, 0.0], abs=0.2)
    assert values.tolist() == pytest.approx([0.5, 0.5, 0.45], abs=0.15)


def test_bad_turns_can_count_less() -> None:
    lm = language_model()
    made = [trajectory([((10, 11), (12, 13)), ((14,), (15,))], [0.5, 1.0]), trajectory([((10,), (12,)), ((16,), (17,))], [0.0, 2.0])]
    turns = encode(passes(lm), made, {})
    critics = Critics(turns.state.shape[1])
    for head in critics.q:
        torch.nn.init.normal_(head.value.weight, generator=torch.Generator().manual_seed(3))
    whole, less = (np.concatenate(credit_turns(critics, turns, made, Config.of(negative=negative).learning)[0].advantages) for negative in (1.0, 0.25))
    assert (whole.min() < 0.0) and (whole.max() > 0.0)
    assert less.tolist() == pytest.approx([one if one > 0 else one / 4 for one in whole])


def test_the_buffer_forgets_the_oldest() -> None:
    turns = [Turns(*[torch.full((3, 2), k)] * 4, *[torch.full((3,), k)] * 3) for k in (1.0, 2.0)]
    assert turns[0].append(turns[1], 4).reward.tolist() == [1.0, 2.0, 2.0, 2.0]


# ---------------------------------------------------------------- all of them
@pytest.mark.parametrize("name", ["rft", *(pytest.param(name, marks=pytest.mark.slow) for name in ("eto", "trajectory-dpo", "archer-lite"))])
def test_a_short_run_and_one_that_resumes_are_the_same(name: str, tmp_path: Path) -> None:
    config = SMALL.replace(**{**algorithm_settings(name), "group": 2}, algo=name)
    report = load_algorithm(name)(config, tmp_path / "whole")
    lines = read_metrics(tmp_path / "whole")
    assert (report["updates"], report["algo"]) == (2, name)
    assert lines[1]["env_steps"] == report["env_steps"] > lines[0]["env_steps"] > 0
    assert report["model_tokens"] == lines[1]["model_tokens"] > lines[0]["model_tokens"]
    load_algorithm(name)(config.replace(updates=1), tmp_path / "parts")
    load_algorithm(name)(config, tmp_path / "parts", resume=True)
    for one, other in zip(timeless(tmp_path / "whole"), timeless(tmp_path / "parts"), strict=True):
        assert one == pytest.approx(other, nan_ok=True)
    whole, parts = (load_checkpoint(tmp_path / part)[1] for part in ("whole", "parts"))
    assert all(torch.equal(tensor, parts[key]) for key, tensor in whole.items())


@pytest.mark.slow
def test_archer_imitates_while_its_critics_learn(tmp_path: Path) -> None:
    config = SMALL.replace(**{**algorithm_settings("archer-lite"), "group": 2, "imitate": "steps"}, algo="archer-lite", shaper=PAYS)
    load_algorithm("archer-lite")(config, tmp_path)
    _, second = read_metrics(tmp_path)
    assert "policy_loss" not in second, "the critics' warm-up takes two updates"
    assert second["imitation_loss"] > 0.0


def test_a_run_that_resumes_imitates_what_it_did_before(tmp_path: Path) -> None:
    config = SMALL.replace(shaper=PAYS, memory=1)
    train = load_algorithm("step-ppo")
    train(config, tmp_path / "whole")
    train(config.replace(updates=1), tmp_path / "parts")
    train(config, tmp_path / "parts", resume=True)
    first, second = read_metrics(tmp_path / "parts")
    assert "imitation_loss" not in first and second["imitation_loss"] > 0.0
    assert timeless(tmp_path / "whole") == timeless(tmp_path / "parts")
    whole, parts = (load_checkpoint(tmp_path / part)[1] for part in ("whole", "parts"))
    assert all(torch.equal(tensor, parts[key]) for key, tensor in whole.items())


def test_a_budget_ends_training(tmp_path: Path) -> None:
    config = SMALL.replace(updates=9, value_passes=0, budget_steps=1)
    assert load_algorithm("step-ppo")(config, tmp_path / "run")["updates"] == 1  # the update that used it up


def test_tasks_come_in_groups(tmp_path: Path) -> None:
    with Run(SMALL.replace(episodes=6, group=3), tmp_path / "run") as run:
        tasks = run.draw(run.suite("train"))
        assert tasks == [tasks[0]] * 3 + [tasks[3]] * 3
        with pytest.raises(UnknownName, match="unknown option of step-ppo 'beta'"):
            Run(SMALL.replace(algo_options={"beta": 1}), tmp_path / "other").options(tau=0.1)


def test_every_name_is_an_algorithm() -> None:
    for name in ALGORITHMS:
        assert callable(load_algorithm(name))
        for model in ("tiny", "smollm2"):
            config = configure([Layer("test", {"algo": name, "model.name": model})], algorithm_settings).config
            assert (config.learning.algo, config.model.name) == (name, model)


def test_an_algorithm_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "SETTINGS = {'lr': 0.5}\n\ndef train(config, out, *, resume=False, console=None):\n    return {'mine': config.run.seed}\nother = train\n"
    )
    for name in (str(tmp_path / "mine.py"), f"{tmp_path / 'mine.py'}:other"):
        assert load_algorithm(name)(SMALL, tmp_path) == {"mine": 0}
        assert configure([Layer("test", {"algo": name})], algorithm_settings).config.learning.lr == 0.5
    assert load_algorithm("steptool_agents.algorithms.rft:accepted") is accepted
    (tmp_path / "empty.py").write_text("x = 1")
    for name, message in (
        (str(tmp_path / "empty.py"), "define a function 'train'"),
        (str(tmp_path / "none.py"), "there is no file"),
        ("no_such_module_at_all:train", "cannot be imported"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            load_algorithm(name)
    with pytest.raises(UnknownName, match="Did you mean 'grpo'"):
        load_algorithm("grppo")
