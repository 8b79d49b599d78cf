"""Hypothesis' settings for the search of a counterexample: the same inputs in each run, and no time limit."""

from hypothesis import HealthCheck, Phase, settings


def search(examples: int) -> settings:
    """Settings with which a finding can be repeated: nothing depends on a clock or on an earlier run."""
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )
