"""What the tests hear of the environment of who runs them."""

from tests.conftest import persons_own


def test_how_much_is_tried_is_heard_and_a_persons_own_cluster_is_not() -> None:
    """The long forms of ``make soak`` were the short ones, as long as both went."""
    names = ["PATH", "PERSEUS_CONTEXT", "PERSEUS_TEST_WHOLE", "PERSEUS_TEST_STDIN_BYTES"]
    assert persons_own(names) == ["PERSEUS_CONTEXT"]
