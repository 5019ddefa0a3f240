"""Python, the packages that r1mega needs, and whether they are the versions that were tested."""

import platform
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from r1mega.cli.doctor.finding import Finding, Level

if TYPE_CHECKING:
    from packaging.requirements import Requirement

SETUP = "run launch/setup"


def check_software() -> Iterator[Finding]:
    """Python, every declared dependency, and the pins."""
    new_enough = sys.version_info >= (3, 12)
    yield Finding(Level.OK if new_enough else Level.PROBLEM, "Python",
                  f"{platform.python_version()} at {sys.executable}" + ("" if new_enough else "; needs 3.12 or newer"))
    try:
        declared = metadata.requires("r1mega") or []
    except metadata.PackageNotFoundError:
        yield Finding(Level.PROBLEM, "r1mega", f"not installed, only its source is here; {SETUP}")
        return
    yield Finding(Level.OK, "r1mega", metadata.version("r1mega"))
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:
        yield Finding(Level.PROBLEM, "packages", f"hardly any is there; {SETUP}")
        return
    for text in declared:
        yield from _requirement(Requirement(text))
    yield from check_pins(Path(__file__).parents[3] / "constraints.txt")


def check_pins(constraints: Path) -> Iterator[Finding]:
    """Installed versions against a constraints file; nothing to say where there is no such file."""
    if not constraints.is_file():
        return
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;#]+)", constraints.read_text(), re.MULTILINE)
    other = [f"{name} {found} (tested: {pin})" for name, pin in pins
             if (found := _version(name)) is not None and found.partition("+")[0] != pin]
    if other:
        shown = ", ".join(other[:6]) + (f" and {len(other) - 6} more" if len(other) > 6 else "")
        yield Finding(Level.ABSENT, "pins", f"{shown}; other versions than the tested ones may differ; {SETUP}")
    else:
        yield Finding(Level.OK, "pins", "every installed package has the tested version")


def _requirement(requirement: "Requirement") -> Iterator[Finding]:
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return
    found = _version(requirement.name)
    if found is None:
        yield Finding(Level.PROBLEM, requirement.name, f"missing; {SETUP}")
    elif not requirement.specifier.contains(found, prereleases=True):
        yield Finding(Level.PROBLEM, requirement.name, f"{found}, needs {requirement.specifier}; {SETUP}")
    else:
        yield Finding(Level.OK, requirement.name, found)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
