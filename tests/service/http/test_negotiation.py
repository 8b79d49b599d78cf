"""The format of an answer, by parameter and by Accept."""

import pytest

from service.errors import NotAcceptable
from service.http.negotiation import IMAGE_FORMATS, LATENT_FORMATS, Format, choose_format


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        pytest.param(None, "png", id="nothing"),
        pytest.param("", "png", id="empty"),
        pytest.param("*/*", "png", id="anything"),
        pytest.param("application/json", "json", id="one"),
        pytest.param("IMAGE/WEBP", "webp", id="upper-case"),
        pytest.param("image/*", "png", id="any-picture"),
        pytest.param("text/html, image/webp, */*;q=0.8", "webp", id="browser"),
        pytest.param("image/png;q=0.1, image/jpeg;q=0.9", "jpeg", id="qualities"),
        pytest.param("image/png;q=0, */*", "jpeg", id="all-but-one"),
        pytest.param("*/*;q=0.5, application/json;q=0.6", "json", id="specific-above-general"),
        pytest.param("image/jpeg;q=oops, application/x-npy", "npy", id="quality-that-is-not-a-number"),
        pytest.param("image/gif, image/jpeg, *; q=.2, */*; q=.2", "jpeg", id="java"),
        pytest.param('text/plain;x=",image/webp,", image/jpeg', "jpeg", id="comma-in-quotes"),
        pytest.param('image/webp;x=";q=0", image/jpeg;q=0.9', "webp", id="semicolon-in-quotes"),
        pytest.param(r'image/webp;x="\";q=0", image/jpeg;q=0.9', "webp", id="quote-in-quotes"),
        pytest.param('image/jpeg;q=0.5, image/webp;x="', "webp", id="quote-without-an-end"),
        pytest.param("*/*;q=0, image/jpeg", "jpeg", id="nothing-but-one"),
        pytest.param("image/jpeg, */*;q=0", "jpeg", id="one-and-nothing-else"),
        pytest.param("image/*;q=0, */*", "json", id="no-pictures"),
        pytest.param("image/*;q=0.4, image/jpeg;q=0.3, */*;q=0.1", "png", id="family-above-one-of-it"),
        pytest.param("image/png;q=nan, image/jpeg;q=inf, image/webp;q=2, application/json", "json", id="odd-qualities"),
        pytest.param("image/png;q=-1, image/jpeg;q=1e0, image/webp;q=1_0, */*;q=0.1", "json", id="python-numbers"),
        pytest.param(" , ,", "png", id="empty-list"),
        pytest.param(",image/jpeg,,", "jpeg", id="empty-members"),
        pytest.param("application/vnd.safetensors; charset=x", "safetensors", id="other-parameters"),
    ],
)
def test_accept_decides(accept: str | None, expected: Format) -> None:
    """The best quality wins, the most specific range counts, and the order of the offered formats breaks ties."""
    assert choose_format(None, accept, IMAGE_FORMATS) == expected


@pytest.mark.parametrize("piece", ['"', '\\"', ",", ";", "image/png;", '";"', "\\"])
def test_long_header_is_read_once(piece: str) -> None:
    """A head may have a megabyte, if the operator allows it. To read it again from each place would take minutes."""
    assert choose_format(None, f'image/jpeg, x/x;x="{piece * 100_000}\\', IMAGE_FORMATS) == "jpeg"


def test_ranges_beyond_a_limit_are_ignored() -> None:
    """Each range takes time on the event loop, and a head has room for thousands."""
    assert choose_format(None, "x/y," * 255 + "image/jpeg", IMAGE_FORMATS) == "jpeg"
    with pytest.raises(NotAcceptable):
        choose_format(None, "x/y," * 256 + "image/jpeg", IMAGE_FORMATS)


def test_format_parameter_wins_over_accept() -> None:
    """A person can type the parameter into a browser's address."""
    assert choose_format("npy", "image/png", IMAGE_FORMATS) == "npy"


@pytest.mark.parametrize(
    ("wanted", "accept"), [("png", None), (None, "image/png"), (None, "text/html"), (None, "application/json;q=0")]
)
def test_format_that_is_not_offered_is_refused(wanted: Format | None, accept: str | None) -> None:
    """Latents cannot be answered as a picture."""
    with pytest.raises(NotAcceptable, match="json"):
        choose_format(wanted, accept, LATENT_FORMATS)
