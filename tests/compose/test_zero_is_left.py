"""The last of these tests, by its name too, for it takes the stack down."""

import pytest

from compose.conftest import Stack

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]


def test_taking_it_down_leaves_nothing(stack: Stack) -> None:
    stack.run("down", "--volumes", "--remove-orphans", "--timeout", "10")
    assert stack.left() == ""
