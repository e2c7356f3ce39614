"""How much of a run is done, and the rates that follow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lms import language_model

from steptool_agents.config import Config
from steptool_agents.learning.optimizer import policy_optimizer, set_learning_rate
from steptool_agents.learning.schedule import learning_rate, share_done
from steptool_agents.runs.run import Run
from steptool_env.errors import InvalidArgument


def test_the_share_that_is_done_by_hand() -> None:
    assert [share_done(n, {"updates": n}, {"updates": 5}) for n in range(5)] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert share_done(0, {"updates": 0}, {"updates": 1}) == 0.0, "the only update is the first"
    # Four updates took 400 of 1000 steps, 100 each: the tenth and last one begins at 900.
    assert share_done(4, {"steps": 400}, {"steps": 1000}) == pytest.approx(400 / 900)
    assert share_done(9, {"steps": 900}, {"steps": 1000}) == 1.0
    # Whichever ends the run first counts: 3/9 of the updates, 300/900 of the steps, 500/(600 - 500/3) of the tokens.
    used = {"updates": 3, "steps": 300, "tokens": 500}
    assert share_done(3, used, {"updates": 10, "steps": 1000, "tokens": 600}) == 1.0
    assert share_done(3, used, {"updates": 10, "steps": 1000, "tokens": 2000}) == pytest.approx(1 / 3)
    assert share_done(3, used, {"updates": None, "steps": None}) == 0.0
    assert share_done(0, {"steps": 100}, {"steps": 1000}) == pytest.approx(1 / 9), "what the critic was fitted to before the first update"


@given(st.integers(2, 40), st.floats(1.0, 1e7))
def test_equal_updates_make_a_straight_line_by_any_limit(count: int, cost: float) -> None:
    shares = [share_done(n, {"tokens": n * cost}, {"tokens": count * cost}) for n in range(count)]
    assert shares == pytest.approx(np.linspace(0, 1, count))


@given(st.integers(0, 100), st.floats(0, 1e9), st.floats(1e-3, 1e9))
def test_a_share_is_a_share(updates: int, used: float, limit: float) -> None:
    assert 0.0 <= share_done(updates, {"tokens": used}, {"tokens": limit}) <= 1.0


def test_mistakes() -> None:
    with pytest.raises(InvalidArgument, match="must not be negative"):
        share_done(-1, {}, {})
    with pytest.raises(InvalidArgument, match="limit of 'steps' must be positive"):
        share_done(1, {"steps": 1}, {"steps": 0})
    with pytest.raises(InvalidArgument, match="what is used of it known"):
        share_done(1, {"steps": 1}, {"tokens": 5})
    with pytest.raises(InvalidArgument, match="done must be in"):
        learning_rate(1e-3, 0.1, 1.5)


def test_the_learning_rate_falls_in_a_straight_line() -> None:
    optimizer = policy_optimizer(language_model(), 1e-3)
    rates = []
    for update in range(5):
        set_learning_rate(optimizer, learning_rate(1e-3, 0.2, share_done(update, {"updates": update}, {"updates": 5})))
        rates.append([group["lr"] for group in optimizer.param_groups])
    # The value head's rate is ten times the policy's: 1e-3 × (1, 0.8, 0.6, 0.4, 0.2).
    assert np.array(rates) == pytest.approx(np.outer([1e-3, 8e-4, 6e-4, 4e-4, 2e-4], [1.0, 10.0]))


def test_other_groups_keep_their_rate() -> None:
    one, two, three = (torch.nn.Parameter(torch.zeros(1)) for _ in range(3))
    groups = [{"params": [one], "lr": 0.5, "name": "critics"}, {"params": [two], "name": "value_head"}, {"params": [three], "name": "policy"}]
    optimizer = torch.optim.AdamW(groups, lr=1.0)
    set_learning_rate(optimizer, 0.1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 1.0, 0.1], "by name, wherever they stand"


def test_a_run_that_ends_by_a_budget_cools_down(tmp_path: Path) -> None:
    config = Config.of(suite_options={"level": 1}, updates=10_000, budget_steps=1000, lr=1e-3, lr_end=0.1)
    with Run(config, tmp_path / "run") as run:
        optimizer = policy_optimizer(run.lm, config.learning.lr)
        rates = []
        while run.has_budget:
            run.anneal(optimizer)
            rates.append(optimizer.param_groups[0]["lr"])
            run.spent["env_steps"] += 250
            run.update += 1
        assert rates == pytest.approx([1e-3, 7e-4, 4e-4, 1e-4])
    with Run(config.replace(budget_steps=None, updates=3), tmp_path / "other") as run:
        optimizer = policy_optimizer(run.lm, config.learning.lr)
        run.update = 2
        run.anneal(optimizer)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-4), "the last update has what is left of the rate"
