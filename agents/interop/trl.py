"""Any suite as ``environment_factory`` for TRL's ``GRPOTrainer``; rewards by any shaper.

    play = environments("worlds", range(64), shaper="steptool", level=1)
    args = GRPOConfig(max_tool_calling_iterations=play.max_calls)
    GRPOTrainer(model, reward, args, Dataset.from_list(play.rows), environment_factory=play.factories)

TRL looks for tools among the methods of an environment's class. So tasks with different tools need different classes: there is one for every
set of tools, and a row of the data names its own. The model reads the schemas of the toolkit, ordered by name, not ones derived from signatures.

The reward is a function and no method ``get_reward``: of that method TRL makes a column of rewards, and a metric, for every class that has
it, and never shows it the model's last words.

TRL answers some calls itself, and they are no steps: of a tool that is not on offer, and with arguments that are no object.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from steptool_env import RewardShaper, StepToolEnv, TaskSuite, ToolCall, as_chat
from steptool_env.errors import InvalidArgument, NotSupported
from steptool_env.tasks import Episode

from .visit import Visit

__all__ = ["Environments", "TrlEnvironment", "environments", "reward"]

_OWN = ("reset", "get_reward")  # methods that TRL calls itself


class Environments(NamedTuple):
    """What ``GRPOTrainer`` takes."""

    factories: dict[str, Callable[[], TrlEnvironment]]
    """Name -> what makes an environment with one set of tools: ``environment_factory``."""
    rows: list[dict[str, Any]]
    """One for each task, with ``prompt``, ``environment`` and ``task`` (its index): for ``datasets.Dataset.from_list``."""
    max_calls: int
    """The largest step budget: ``max_tool_calling_iterations``."""


class _Method(dict[str, Any]):
    """A tool as TRL takes it: the schema that the model reads, which can be called."""

    def __init__(self, schema: Mapping[str, Any], call: Callable[[ToolCall], str]) -> None:
        super().__init__(schema)
        self.__name__: str = schema["function"]["name"]
        self._call = call

    def __call__(self, /, **arguments: Any) -> str:
        return self._call(ToolCall(self.__name__, arguments))


class TrlEnvironment:
    """One episode after the other, as TRL plays them; ``environments`` makes subclasses with the tools as methods, of these ``schemas`` (JSON)."""

    def __init__(self, make: Callable[[], StepToolEnv], schemas: str, longest: int) -> None:
        self._make, self._longest = make, longest
        self._offered = ""
        self._fault: Exception | None = None
        for schema in json.loads(schemas):
            setattr(self, schema["function"]["name"], _Method(schema, self._call))

    @functools.cached_property  # TRL makes one of every class only to look at its tools
    def _visit(self) -> Visit:
        return Visit(self._make())

    def reset(self, *, task: int, **_row: Any) -> None:
        """Start a task, given by its index; the row of the data has its instruction already."""
        self._offered, self._fault = self._visit.start(task)["tools"], None

    def _call(self, call: ToolCall) -> str:
        visit = self._visit
        try:
            messages, _ = visit.play(call)
            if not visit.ended and visit.episode.toolkit.schemas != self._offered:
                raise NotSupported(f"task {visit.episode.task.id!r} changes its tools within the episode, and TRL shows the model those of the beginning")
        except Exception as fault:  # TRL tells it to the model and goes on; ``reward`` raises it
            self._fault = fault
            raise
        # TRL knows no end but a reply without a call. A result that does not fit is left out, and nothing is asked of the model behind it:
        # so the tokens of an episode end with its last call.
        return "end. " * self._longest if visit.ended else "\n\n".join(message.content for message in messages)

    def _end(self, words: str) -> Visit:
        if self._fault is not None:
            raise self._fault
        self._visit.leave(words)
        return self._visit


def environments(
    suite: str | TaskSuite = "worlds", tasks: Iterable[int] | None = None, *, shaper: str | RewardShaper = "steptool", longest: int = 8_192, **options: Any
) -> Environments:
    """Return a suite as TRL plays it.

    Args:
        suite: A name, or a suite.
        tasks: Indices of the tasks to train on; all of them by default.
        shaper: A name, or a callable.
        longest: Not less than TRL's ``max_completion_length``, in tokens: an episode ends with an answer that is too long for TRL.
        options: Of ``StepToolEnv``: ``max_steps=``, and those of the suite when it is given by name.

    Raises:
        InvalidArgument: TRL cannot offer a tool of this name, or a value is out of range.
        UnknownName: There is no such suite or shaper.
    """
    env = StepToolEnv(suite, shaper, **options)
    names: dict[str, str] = {}
    rows, budget = [], 1
    for index in range(len(env.suite)) if tasks is None else tasks:
        task = env.suite[index]
        episode = Episode(task, env.suite.toolkit(task))
        schemas = sorted(tool.schema_json for tool in episode.toolkit.values())  # TRL shows them by name, in whatever order they stand
        name = names.setdefault(f"[{', '.join(schemas)}]", f"{env.suite.name}-{len(names)}")
        rows.append({"prompt": as_chat(episode.messages), "environment": name, "task": index})
        budget = max(budget, env.max_steps or task.max_steps)
    make = functools.partial(StepToolEnv, env.suite, env.shaper, max_steps=env.max_steps)
    return Environments({name: _factory(make, schemas, longest) for schemas, name in names.items()}, rows, budget)


def _factory(make: Callable[[], StepToolEnv], schemas: str, longest: int) -> Callable[[], TrlEnvironment]:
    names = [schema["function"]["name"] for schema in json.loads(schemas)]
    for name in names:
        if name in _OWN or name.startswith("_"):
            raise InvalidArgument(f"TRL cannot offer the tool {name!r}: it calls {' and '.join(_OWN)} itself, and leaves out names that begin with _")
    # TRL lists the functions of the class and then takes the attributes of the instance, which are the tools themselves.
    kind = type("StepTool", (TrlEnvironment,), {name: (lambda self, **arguments: None) for name in names})
    return lambda: kind(make, schemas, longest)


def reward(environments: Sequence[TrlEnvironment], completions: Sequence[Any], log_metric: Callable[[str, float], None], **_: Any) -> list[float | None]:
    """Return the sum of each episode's rewards; None where the infrastructure failed: TRL then leaves the episode out.

    A reward function of TRL, called when the episodes of a batch are over. An episode that the model left without ``finish`` ends here.
    Logs ``success`` (without the masked episodes), ``masked`` and ``steps``, each a mean over the episodes.
    """
    last = [completion[-1] if completion else {} for completion in completions]
    words = [str(message.get("content") or "") if message.get("role") == "assistant" else "" for message in last]
    visits = [environment._end(text) for environment, text in zip(environments, words, strict=True)]
    for visit in visits:
        log_metric("masked", float(visit.masked))
        log_metric("steps", float(len(visit.episode)))
        if not visit.masked:
            log_metric("success", visit.success)
    return [None if visit.masked else visit.reward for visit in visits]
