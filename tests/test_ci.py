"""The commands of CI and pre-commit stand once, in `.ci/run` and the Makefile, for each Python that we support."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read(name: str) -> Any:
    """Read a YAML file of the repository."""
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


@pytest.fixture
def workflow() -> Any:
    """CI's workflow."""
    return read(".github/workflows/ci.yml")


def test_ci_runs_on_every_python_that_the_package_names(workflow: Any) -> None:
    """The classifiers, from the lowest version that `requires-python` allows, are the versions of CI."""
    prefix = "Programming Language :: Python :: "
    named = [line.removeprefix(prefix) for line in PROJECT["classifiers"] if line.startswith(prefix)]

    assert named == ["3.11", "3.12", "3.13", "3.14"]
    assert PROJECT["requires-python"] == f">={named[0]}"
    assert workflow["jobs"]["run"]["strategy"]["matrix"]["python"] == named


def test_ci_runs_the_one_command_with_the_python_of_the_matrix(workflow: Any) -> None:
    """`.ci/run` is the only command, and the Makefile is told which Python to use."""
    commands = [step for step in workflow["jobs"]["run"]["steps"] if "run" in step]

    assert [step["run"] for step in commands] == [".ci/run"]
    assert commands[0]["env"]["PYTHON"] == "python${{ matrix.python }}"
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


def test_ci_may_only_read_and_pins_its_actions(workflow: Any) -> None:
    """No job asks for more, and each action is named by a major version or a digest."""
    steps = workflow["jobs"]["run"]["steps"]

    assert workflow["permissions"] == {"contents": "read"}
    assert "permissions" not in workflow["jobs"]["run"]
    assert all(re.fullmatch(r"[\w/-]+@(v\d+|[0-9a-f]{40})", step["uses"]) for step in steps if "uses" in step)


def test_pre_commit_lints_as_ci_does() -> None:
    """The hook of pre-commit is `make lint`, which `.ci/run` calls too."""
    [repository] = read(".pre-commit-config.yaml")["repos"]

    assert "make lint" in [hook["entry"] for hook in repository["hooks"]]
    assert "make lint\n" in (ROOT / ".ci/run").read_text(encoding="utf-8")
