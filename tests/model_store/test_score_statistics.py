"""Score statistics: how unusual an image is among normal ones, whichever statistic tells it."""

import numpy as np
import pytest
from pydantic import ValidationError

from model_store import ScoreQuantiles
from model_store.score_statistics import STATISTICS, Statistics, latent_distance, quantiles_of

ROOM = tuple(float(number) for number in range(101))
SCORES = ScoreQuantiles(
    elbo_nats=ROOM,
    log_likelihood_nats=ROOM,
    kl_nats=ROOM,
    latent_distance=ROOM,
    corrected_nats=ROOM,
    typicality=ROOM,
    protocol="the images have the scores 0 to 100",
)


def at(value: float) -> Statistics:
    """Statistics of a single image, which all have that value."""
    return Statistics(*(np.array([value]) for _ in range(5)))


@pytest.mark.parametrize("statistic", ["elbo", "reconstruction", "complexity"])
def test_low_value_is_unusual_where_the_model_explains_an_image_badly(statistic: str) -> None:
    """An image below all normal ones has the percentile 0, one above them 100."""
    found = [SCORES.percentiles(statistic, at(value)) for value in (-5, 30, 200)]  # type: ignore[arg-type]

    assert found == [[0], [30], [100]]


@pytest.mark.parametrize("statistic", ["kl", "distance"])
def test_high_value_is_unusual_where_the_latents_are_far_away(statistic: str) -> None:
    """The percentile is near 0 for an unusual image here too."""
    found = [SCORES.percentiles(statistic, at(value)) for value in (-5, 30, 200)]  # type: ignore[arg-type]

    assert found == [[100], [70], [0]]


def test_typicality_is_two_sided() -> None:
    """An ELBO far above the normal ones, such as an empty picture's, is as unusual as one far below."""
    found = [SCORES.percentiles("typicality", at(value)) for value in (-5, 10, 50, 90, 200)]

    assert found == [[0], [20], [100], [20], [0]]


def test_normal_images_have_all_percentiles_equally_often() -> None:
    """A share of about one in a hundred normal images falls below the first percentile, by each statistic."""
    drawn = np.random.default_rng(0).normal(size=(5, 20_000))
    names = ("elbo_nats", "log_likelihood_nats", "kl_nats", "latent_distance", "corrected_nats")
    found = {name: quantiles_of(row) for name, row in zip(names, drawn, strict=True)}
    ranks = ScoreQuantiles(**found, protocol="drawn").two_sided_ranks(drawn[0])
    scores = ScoreQuantiles(**found, typicality=quantiles_of(ranks), protocol="drawn")
    fresh = Statistics(*np.random.default_rng(1).normal(size=(5, 20_000)))

    for statistic in STATISTICS:
        percentiles = scores.percentiles(statistic, fresh)
        assert percentiles is not None
        assert np.mean(np.array(percentiles) < 1) == pytest.approx(0.01, abs=0.004)


def test_statistic_without_quantiles_has_no_percentile() -> None:
    """Cards of earlier releases have only the ELBO's quantiles."""
    scores = ScoreQuantiles(elbo_nats=ROOM, protocol="of an earlier release")

    assert scores.percentiles("elbo", at(30)) == [30]
    assert scores.percentiles("kl", at(30)) is None
    assert "kl_nats" not in scores.model_dump_json()


def test_quantiles_that_fall_are_refused() -> None:
    """The message names the statistic."""
    with pytest.raises(ValidationError, match="kl_nats are quantiles"):
        ScoreQuantiles(elbo_nats=ROOM, kl_nats=ROOM[::-1], protocol="wrong")


def test_latent_distance_is_in_deviations_of_the_normal_latents() -> None:
    """Three and four deviations in two dimensions have a root mean square of 5/√2."""
    found = latent_distance(np.array([[7.0, 1.0], [1.0, 5.0]]), mean=(1.0, 5.0), standard_deviation=(2.0, 1.0))

    np.testing.assert_allclose(found, [5 / np.sqrt(2), 0])
