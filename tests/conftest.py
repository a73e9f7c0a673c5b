"""Fixtures that several test files share."""

import pytest

from tests import helpers


@pytest.fixture(scope="module")
def tiny():
    """The name of a very small network that can be trained in this module."""
    helpers.allow_network("tiny", helpers.tiny_network())
    yield "tiny"
    helpers.forget_network("tiny")
