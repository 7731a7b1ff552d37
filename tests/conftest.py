"""What all tests share: property tests draw the same examples every time, so that a failure is a fact."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from pipeline.core.isolation import strictly

# `pytest --hypothesis-profile=explore` looks for new examples.
settings.register_profile("explore", max_examples=2000, deadline=None)
settings.register_profile(
    "same",
    derandomize=True,
    database=None,
    deadline=None,  # two cores shared with engines: time says nothing here
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("same")


@pytest.fixture(autouse=True, scope="session")
def _strictly() -> Iterator[None]:
    """No mistake hides behind the isolation of keys: what one of them raises is raised."""
    with strictly():
        yield
