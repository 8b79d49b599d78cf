"""A value that pydantic refuses is described in our own words."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError, field_validator

from model_store.vae import Record
from model_store.vae.record import validation_messages
from model_store.vae.sentences import counted, did_you_mean


class Round(Record):
    """A shape with a radius."""

    kind: Literal["round"] = "round"
    radius: Annotated[float, Field(gt=0, le=10)] = 1.0


class Square(Record):
    """A shape with a side."""

    kind: Literal["square"] = "square"
    side: Annotated[int, Field(ge=1, lt=5)] = 1


class Drawing(Record):
    """A record that holds shapes."""

    title: Annotated[str, Field(min_length=2, max_length=4, pattern="^[a-z]+$")] = "abc"
    is_filled: bool = False
    shapes: list[Annotated[Round | Square, Field(discriminator="kind")]] = Field([], max_length=2)
    paper: Literal["thick", "thin"] | None = None
    frame: Square | None = None

    @field_validator("title")
    @classmethod
    def _title_is_not_taken(cls, title: str) -> str:
        if title == "used":
            raise ValueError("used is taken; choose another title, as new.")
        return title


SIDE_4 = {"kind": "square", "side": 4}
CASES = {
    "unknown": ({"tile": "a"}, "tile is not known; did you mean title? The known names are frame, is_filled, paper, "
                                "shapes, title"),
    "unknown-and-far": ({"xyz": 1}, "xyz is not known; the known names are frame, is_filled, paper, shapes, title"),
    "unknown-inside": ({"frame": {"sid": 1}}, "frame.sid is not known; did you mean side? The known names are kind, "
                                              "side"),
    "unknown-in-a-union": ({"shapes": [SIDE_4, {"kind": "round", "radus": 1}]},
                           "shapes.1.radus is not known; did you mean radius? The known names are kind, radius"),
    "too-low": ({"frame": {"side": 0}}, "frame.side must be at least 1, not 0"),
    "too-high": ({"frame": {"side": 5}}, "frame.side must be less than 5, not 5"),
    "too-low-for-a-fraction": ({"shapes": [{"kind": "round", "radius": -0.5}]},
                               "shapes.0.radius must be greater than 0, not -0.5"),
    "too-high-for-a-fraction": ({"shapes": [{"kind": "round", "radius": 11}]},
                                "shapes.0.radius must be at most 10, not 11"),
    "endless": ({"shapes": [{"kind": "round", "radius": float("inf")}]},
                "shapes.0.radius must be a finite number"),
    "huge": ({"frame": {"side": 10**5000}}, "frame.side must be less than 5"),
    "no-number": ({"frame": {"side": "secret"}}, "frame.side must be a whole number"),
    "fraction": ({"frame": {"side": 1.5}}, "frame.side must be a whole number, not 1.5"),
    "truth": ({"frame": {"side": True}}, "frame.side must be a whole number"),
    "no-truth": ({"is_filled": "perhaps"}, "is_filled must be true or false"),
    "no-text": ({"title": ["secret"]}, "title must be a text"),
    "short": ({"title": "a"}, "title must have a length of at least 2"),
    "long": ({"title": "secret"}, "title must have a length of at most 4"),
    "pattern": ({"title": "ABC"}, "title must match ^[a-z]+$"),
    "no-list": ({"shapes": "secret"}, "shapes must be a list"),
    "long-list": ({"shapes": [SIDE_4] * 3}, "shapes must have a length of at most 2"),
    "choice": ({"paper": "secret"}, "paper must be thick or thin"),
    "no-kind": ({"shapes": [{}]}, "shapes.0 must have the field kind"),
    "unknown-kind": ({"shapes": [{"kind": "x" * 99}]},
                     "shapes.0 must have one of round, square as its kind, not " + "x" * 20),
    "no-fields": ({"frame": "secret"}, "frame must hold named fields"),
    "nothing": ("secret", "it must hold named fields"),
    "our-own": ({"title": "used"}, "title: used is taken; choose another title, as new"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_problem_is_told_in_our_words(case: str) -> None:
    """A sentence has the place and the expectation; it repeats the value only if that is a short number."""
    value, expected = CASES[case]

    assert told(value) == [expected]


def test_each_problem_has_a_sentence() -> None:
    """The sentences have the order in which the errors were found."""
    assert told({"title": "a", "paper": "x"}) == [
        "title must have a length of at least 2", "paper must be thick or thin",
    ]  # fmt: skip


def test_kind_of_error_without_a_sentence_shows_none_of_pydantics_words() -> None:
    """A new release of pydantic may have kinds of errors that this table lacks."""

    class Odd(Record):
        number: Annotated[int, Field(multiple_of=2)]

    with pytest.raises(ValidationError) as caught:
        Odd(number=3)

    assert validation_messages(caught.value, Odd) == ["number does not have the expected form, not 3"]


@pytest.mark.parametrize(("name", "guess"), [("sead", "; did you mean seed?"), ("colour", ""), ("", "")])
def test_nearest_name_is_guessed_where_one_is_near(name: str, guess: str) -> None:
    """If no name is similar, none is proposed."""
    assert did_you_mean(name, ["seed", "n"]) == guess


def told(value: Any) -> list[str]:
    """The sentences about a drawing."""
    with pytest.raises(ValidationError) as caught:
        Drawing.model_validate(value)
    return validation_messages(caught.value, Drawing)


@pytest.mark.parametrize(
    ("number", "units", "text"),
    [
        (1, "images", "1 image"),
        (0, "images", "0 images"),
        (1024, "pixels a side", "1,024 pixels a side"),
        (1, "pixels a side", "1 pixel a side"),
    ],
)
def test_one_of_a_unit_is_no_plural(number: int, units: str, text: str) -> None:
    """The first word of the units is made singular."""
    assert counted(number, units) == text
