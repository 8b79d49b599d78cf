"""The words of the project are plain English: subject, verb, object, and the noun before the pronoun."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("model_store", "training", "service", "deploy", "benchmarks", "docs", "tests")
CODE = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "service").rglob("*.html")])
OWN = Path(__file__)

# CONTRIBUTING.md quotes the words that it forbids.
QUOTED = re.compile(r'"[^"\n]*"')

# Words that make a reader guess who or what is meant. "There is no default model" is plain; "x is no y" is not.
RIDDLES = re.compile(
    r"\b(whoever|whatever|nobody|somebody|so many|for ever|what is|those of|there is one)\b"
    r"|(?<!there )\bis no (?!longer|more|less|larger|smaller|faster|slower)\w+",
    re.IGNORECASE,
)
# A docstring names its subject.
PRONOUN = re.compile(r"(What|Who|Where|Which|It|Those|That|Some|Nothing|Of)\b|One (has|is|of|that|which)\b")
# Names that a newcomer could not understand. Each has a plainer one now; ordinary words are not in this list.
OLD_NAMES = re.compile(
    r"\b(HERE_S|NO_CORE_HERE_S|here_s|LOOK_S|LOOK_EVERY|LOOKS|_LOOK|NOBODY|SLACK|_MOST_PARTS"
    r"|Paces?|Meaningless|Crowded|Overloaded|BeyondRepair|Unparseable|AppParts|_Sent|_forget|_way_in|_past_telemetry"
    r"|keepers|_line_up|_decline|_tell_app|sign_on|sign_off|silence_s|bend_again"
    r"|warm_up_cache|error_responses|cuda_operations|torch_operations)\b"
)


def docstrings(tree: ast.AST) -> Iterator[str]:
    """The docstring of every module, class and function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def comments(text: str) -> Iterator[str]:
    """Every comment, without its sign."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def messages(tree: ast.AST) -> Iterator[str]:
    """Strings of several words, which people read."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count(" ") > 2:
            yield node.value


@pytest.mark.parametrize("path", [path for path in CODE if path != OWN], ids=lambda path: str(path.relative_to(ROOT)))
def test_code_has_no_riddles(path: Path) -> None:
    """Docstrings, comments and messages have none of the words, and no old name has come back."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    sentences = [*docstrings(tree), *comments(text), *messages(tree)]

    assert [found.group() for sentence in sentences for found in RIDDLES.finditer(sentence)] == []
    assert [docstring for docstring in docstrings(tree) if PRONOUN.match(docstring)] == []
    assert OLD_NAMES.findall(text) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_have_no_riddles(path: Path) -> None:
    """Pages have none of the words, except in double quotes, and no old name."""
    text = path.read_text(encoding="utf-8")

    assert [found.group() for found in RIDDLES.finditer(QUOTED.sub("", text))] == []
    assert OLD_NAMES.findall(text) == []
