"""What tests in every folder use."""

import resource
from collections.abc import Iterator

import pytest

from r1mega.config import LayoutConfig

# Megatron's wrapper of a model is in a circle through C++ that nothing collects, and keeps the sockets of its groups:
# some 80 descriptors for every training run inside the process of the tests.
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@pytest.fixture
def groups() -> Iterator[object]:
    """The groups of a world of one rank, left again however the test ends."""
    from r1mega.parallel import start, stop

    try:
        yield start(LayoutConfig(), seed=0)
    finally:
        stop()
