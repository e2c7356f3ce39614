"""``Player``: plays the training episodes of a run, now or ahead, and gives those of servers to the learner to read.

With ``overlap`` 0, episodes are played when an update begins, with its weights. With ``overlap`` 1, servers play the episodes of update k + 1
with the weights that update k begins with, while update k learns:

    servers    play 0 (W0)    play 1 (W0)    play 2 (W1)    …
    learners                  learn 0 → W1   learn 1 → W2   …

So every update but the first learns from episodes of one update ago (``staleness``), and the importance weights of ``learning/reread.py``
compare the policy that learns with the one that sampled.

What is lost with a kill: an update waits for the episodes that are played ahead before it is saved, and they are saved with it. A run that
was killed in the middle of update k goes on with the saved episodes of update k, and plays those of update k + 1 again, from the same tasks and
seeds and with the same weights.
"""

from __future__ import annotations

from concurrent.futures import Future

from ..learning.batches import length
from ..learning.reread import corrected
from ..parallel import processes
from ..parallel.background import background
from ..parallel.profiling import Profiler
from ..policies.served import ServedPolicy
from ..rollouts.collect import rollout
from ..trajectory import Trajectory, from_lines, to_lines
from .rewards import labeled
from .run import Run

__all__ = ["Player"]

AHEAD = "ahead"
"""In the state of a run: the episodes that were played ahead, as lines of JSON."""


class Player:
    """Plays with the run's policy.

    Args:
        run: The run, with its last checkpoint restored.
        reread: Whether the learner reads what servers have played: its values and log-probabilities, and importance weights.
    """

    def __init__(self, run: Run, *, reread: bool) -> None:
        self.run, self.reread = run, reread
        self.measured: dict[str, float] = {}
        """Metrics of the newest episodes, besides those of what happened in them."""
        self._served = run.policy if isinstance(run.policy, ServedPolicy) else None
        self._asked = False
        """Whether servers have played since this update began: the last one of a run that plays ahead needs none."""
        self._suite = run.suite("train")
        self._envs = run.environments(self._suite, run.config.rollout.episodes)
        self._flight: Future[list[Trajectory]] | None = None
        self._ahead: list[Trajectory] | None = None
        if run.config.rollout.overlap:
            run.policy.profiler = Profiler()  # phases of two threads do not add up to the time that passes
            if saved := run.state.pop(AHEAD, None):
                self._ahead = from_lines(saved.encode("utf-8"), run.out / "checkpoints")

    def now(self) -> list[Trajectory]:
        """Play with the newest weights, and wait for it."""
        run, self._asked = self.run, True
        run.policy.forget()
        return labeled(run.collect(self._envs, run.draw(self._suite)), self._envs[0].shaper)

    def next(self) -> list[Trajectory]:
        """Return the episodes of the update that begins; with ``overlap``, those of the next one are begun."""
        run, self._asked = self.run, False
        if not run.config.rollout.overlap:
            episodes, stale = self.now(), 0
        else:
            stale = int(self._ahead is not None)
            if self._ahead is None:
                episodes = self.now()
            else:
                episodes, self._ahead = self._ahead, None
                if run.has_budget_after_this:
                    run.policy.forget()
            if run.has_budget_after_this:
                tasks = run.draw(self._suite)
                run.deal_seeds(len(tasks))
                share, self._asked = processes.share(tasks), True
                self._flight = background(lambda: rollout(run.policy, self._envs, share), "steptool-ahead")
        self.measured = {} if self._served is None else {"staleness": float(stale)}
        return episodes

    def read(self, episodes: list[Trajectory]) -> list[Trajectory]:
        """Return episodes as the algorithm learns from them."""
        if self._served is None or not self.reread:
            return episodes
        episodes, measured = corrected(self.run.passes, episodes, self.run.config.learning.importance_cap)
        self.measured |= measured
        return episodes

    def finish(self) -> None:
        """Wait for the episodes that are played ahead, and put them into the run's state, which is saved with the update."""
        run, profiler = self.run, self.run.lm.profiler
        if self._served is not None and self._asked:
            self.measured |= self._served.counts()
        run.state.pop(AHEAD, None)
        if self._flight is None:
            return
        with profiler("generate"):
            local = self._flight.result()
        profiler.count("generate", sum(map(length, local)))
        self._flight = None
        self._ahead = labeled(run.gathered(local), self._envs[0].shaper)
        if processes.is_main():
            run.state[AHEAD] = to_lines(self._ahead).decode("utf-8")
