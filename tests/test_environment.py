"""pyproject.toml, constraints.txt and environment.yml say the same."""

import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# conda-forge's names, where they are not PyPI's.
PYPI_NAME = {"pytorch": "torch", "matplotlib-base": "matplotlib"}


def declared():
    """Name → requirement, over the package and all its extras."""
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    wanted = [Requirement(line) for group in groups for line in group]
    return {canonicalize_name(requirement.name): requirement for requirement in wanted}


def pins():
    """Name → exact version of constraints.txt."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            (specifier,) = requirement.specifier
            assert specifier.operator == "==" and not requirement.url, line
            assert "+" not in specifier.version, f"{line}: a build label fits one index only"
            name = canonicalize_name(requirement.name)
            assert name not in found, f"{name} is pinned twice"
            found[name] = specifier.version
    return found


def conda():
    """Name → requirement of environment.yml, the `pip:` list included."""
    lines = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (from_pypi,) = [line["pip"] for line in lines if isinstance(line, dict)]
    assert from_pypi[-1] == "-e .", "the project itself comes last, when all it needs is there"
    wanted = [Requirement(line) for line in lines if isinstance(line, str)]
    wanted += [Requirement(line) for line in from_pypi[:-1]]
    names = [canonicalize_name(PYPI_NAME.get(one.name, one.name)) for one in wanted]
    assert len(names) == len(set(names)), "a dependency is listed twice"
    return dict(zip(names, wanted, strict=True))


@pytest.mark.parametrize("name", declared())
def test_every_dependency_is_pinned(name):
    version = pins().get(name)
    assert version, f"{name} has no pin in constraints.txt"
    wanted = declared()[name].specifier
    assert wanted.contains(version), f"constraints.txt pins {name} {version}, which is not {wanted}"


def test_environment_yml_lists_the_same():
    listed = conda()
    python = listed.pop("python")
    assert str(python.specifier) == PROJECT["requires-python"]
    assert {name: str(one.specifier) for name, one in listed.items()} == {
        name: str(one.specifier) for name, one in declared().items()
    }


def test_citation_has_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
