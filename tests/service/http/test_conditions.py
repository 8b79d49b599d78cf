"""If-None-Match is a list of tags, compared weakly; a text that is not such a list holds nothing."""

import pytest

from service.http.conditions import holds


@pytest.mark.parametrize(
    "text",
    ["*", " * ", '"abc"', 'W/"abc"', '"x", "abc"', '"x","abc"', ',, "x" ,\t"abc" ,', '"a,b", W/"abc"', '"", "abc"'],
)
@pytest.mark.parametrize("tag", ['"abc"', 'W/"abc"'])
def test_tag_is_found(text: str, tag: str) -> None:
    """Whether it is weak here or there, and however the list is written."""
    assert holds(text, tag)


@pytest.mark.parametrize(
    "text",
    ["", "abc", '"x,"abc","', '"x, "abc", y"', '"abc', 'abc"', '"x""abc"', 'w/"abc"', '"abc"x', '*, "abc"', "**", '"*"',
     '"ABC"', '"abc" "x"', '"a", *'],
)  # fmt: skip
def test_tag_is_not_found_in_what_is_not_a_list_with_it(text: str) -> None:
    """A part of another tag is not a tag."""
    assert not holds(text, '"abc"')


@pytest.mark.parametrize("piece", [",", " ", '"', 'W/"', '"",', "\t,", 'W/"a"', '" '])
def test_long_header_is_read_once(piece: str) -> None:
    """A head may have a megabyte, if the operator allows it. To read it again from each place would take minutes."""
    assert not holds(piece * 100_000, '"abc"')
