"""``steptool``: the default shaper. SC + Con + IsSolved, with the exact contribution of every call, and not farmable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steptool_env.types import Transition, whose

__all__ = ["StepTool"]


class StepTool:
    """Step-grained reward of the StepTool paper (arXiv 2410.07745, section 3.1), made safe against farming.

    r_t = α·SC_t + β·Con_t for every step, plus IsSolved at the last one:

    - SC_t: -1 if the call failed by the model's own fault (``whose``), else 0: what the environment, a tool's author or the
      infrastructure did costs nothing, so the oracle's return does not depend on faults. The paper pays [0, 1]; the shift
      by -1 keeps the difference between a good and a bad call, but a long row of useless calls that succeed no longer
      earns anything.
    - Con_t: the exact gain in progress, progress_t - progress_{t-1}. It telescopes: whatever detours an episode takes,
      its contributions sum to the progress it ends with, at most 1, and harm is taken back.
    - IsSolved: the verdict in [0, 1].

    So a return is at most β + 1, it is reached only by solving the task without a mistake, and calls that repeat or
    stall earn 0.

    Args:
        alpha: Weight of SC.
        beta: Weight of Con.
    """

    def __init__(self, alpha: float = 0.1, beta: float = 0.5) -> None:
        self.alpha, self.beta = alpha, beta

    def __call__(self, episode: Sequence[Transition], /) -> Mapping[str, float]:
        last = episode[-1]
        outcome, error = last.outcome, last.result.error
        return {
            "sc": -self.alpha if error and whose(error) == "model" else 0.0,
            "con": self.beta * (last.progress - last.progress_before),
            "solved": outcome.solved if outcome is not None else 0.0,
        }
