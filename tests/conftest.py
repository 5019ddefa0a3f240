"""What tests in every folder use."""

from collections.abc import Iterator

import pytest

from r1mega.config import LayoutConfig


@pytest.fixture
def groups() -> Iterator[object]:
    """The groups of a world of one rank, left again however the test ends."""
    from r1mega.parallel import start, stop

    try:
        yield start(LayoutConfig(), seed=0)
    finally:
        stop()
