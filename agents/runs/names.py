"""Whether everything that a run names exists, before anything heavy is imported."""

from __future__ import annotations

from steptool_env.formats import make_format
from steptool_env.rewards import make_shaper
from steptool_env.tasks import SUITES, suite_factory

from ..config import Config
from ..credit.loading import load_scheme
from .measures import own_measure

__all__ = ["check_names"]


def check_names(config: Config) -> None:
    """Raise for suites, shapers, credit schemes, metrics and formats that do not exist, and for options that a shaper does not take.

    Raises:
        UnknownName: There is none of this name.
        InvalidArgument: A file or module cannot be imported, or what is in it is none.
    """
    if config.task.suite not in SUITES:
        suite_factory(config.task.suite)
    make_shaper(config.task.shaper, **config.task.shaper_options)
    load_scheme(config.learning.credit)
    own_measure(config.run.measure)
    if config.model.call_format not in ("auto", "native"):
        make_format(config.model.call_format)
