"""How Hypothesis looks for what breaks a property: the same way each time, for as long as it takes."""

from hypothesis import HealthCheck, Phase, settings


def search(examples: int) -> settings:
    """So that a finding is found again: nothing is drawn from a clock or kept from another run."""
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )
