"""Suites in OpenEnv: the environment itself, and behind its server."""

from __future__ import annotations

import random
from typing import Any

import pytest

pytest.importorskip("openenv", reason="openenv is not installed: pip install 'steptool-env[openenv]'")

from replays import call, replay
from toy import Counting

from steptool_agents.interop.openenv import CallAction, CallObservation, environments
from steptool_env.errors import ResetNeeded, UnknownName

pytestmark = pytest.mark.filterwarnings("ignore")  # OpenEnv's and those of what it imports


def test_the_reward_is_that_of_our_own_rollout() -> None:
    rng, options = random.Random(0), {"suite": "worlds", "level": 2, "faults": 1}
    env = environments(**options)()
    for task in range(20):
        observation: CallObservation = env.reset(task=task, episode_id=f"e{task}")
        assert [message["role"] for message in observation.messages] == ["user"] and observation.tools
        actions, rewards = [], []
        while not observation.done:
            actions.append(call(rng, env._visit.env, offered=False))
            observation = env.step(CallAction(**actions[-1].as_dict()))
            assert [message["role"] for message in observation.messages] == ["tool"] and observation.tools is None
            rewards.append(observation.reward)
        ours = replay(task, actions, **options)
        assert rewards == list(ours.rewards)
        assert (env.state.episode_id, env.state.step_count, env.state.total_reward) == (f"e{task}", len(rewards), sum(rewards))


@pytest.mark.parametrize("action", [{}, {"name": 3, "arguments": []}, {"call": "add 3"}, {"name": "none", "arguments": {}, "why": 1}, {"call": None}])
def test_what_is_no_call_is_answered(action: dict[str, Any]) -> None:
    env = environments(Counting())()
    env.reset(task=0)
    observation = env.step(CallAction(**action))
    assert observation.reward < 0 and not observation.done and observation.messages[0]["content"].startswith("Error")


def test_an_infrastructure_fault_has_no_reward() -> None:
    env = environments(Counting())()
    assert env.state.step_count == 0
    with pytest.raises(ResetNeeded):
        env.step(CallAction(call={"name": "roll"}))
    env.reset(seed=3)
    observation = env.step(CallAction(call={"name": "phone", "arguments": {}}))
    assert (observation.reward, observation.done, observation.metadata["masked"]) == (None, True, True)
    again = env.step(CallAction(call={"name": "roll"}))
    assert again.done and len(env._visit.episode) == 1
    with pytest.raises(UnknownName):
        environments("wrlds")


def test_the_seed_draws_the_task() -> None:
    make = environments("worlds", level=1)
    first, second, third = (make().reset(seed=seed).metadata["task_id"] for seed in (1, 1, 2))
    assert first == second != third


def test_several_clients_play_at_the_same_time() -> None:
    import threading
    import time

    import uvicorn
    from openenv.core import GenericEnvClient, create_app

    app = create_app(environments(Counting()), CallAction, CallObservation, max_concurrent_envs=4)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        (port,) = (one.getsockname()[1] for one in server.servers[0].sockets)
        with GenericEnvClient(base_url=f"http://127.0.0.1:{port}").sync() as one, GenericEnvClient(base_url=f"http://127.0.0.1:{port}").sync() as other:
            assert one.reset(task=0).observation["messages"] == [{"role": "user", "content": "Count to 3."}]
            assert other.reset(task=1).observation["messages"] == [{"role": "user", "content": "Count to 4."}]
            for client, goal in ((one, 3), (other, 4)):
                client.step({"name": "add", "arguments": {"amount": goal}})
                result = client.step({"name": "finish", "arguments": {"answer": str(goal)}})
                assert result.done and result.reward == 1.0
    finally:
        server.should_exit = True
        thread.join()
