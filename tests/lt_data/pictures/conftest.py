"""Pictures are what these tests look at, those of builds too."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def _drawn_once():
    """Every build draws its own."""
