"""Work on one chunk in its order, on several side by side."""

import threading

from perseus.filestore.lanes import Lanes

LIMIT_S = 30.0


def test_a_lane_keeps_its_order_and_holds_up_no_other() -> None:
    lanes = Lanes(2, "test")
    done: list[str] = []
    free, beside, ended = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        assert free.wait(LIMIT_S)
        done.append("first")

    lanes.submit(1, first)
    lanes.submit(1, lambda: done.append("second"))
    lanes.submit(1, ended.set)
    lanes.submit(2, beside.set)
    assert beside.wait(LIMIT_S)
    assert done == []
    free.set()
    assert ended.wait(LIMIT_S)
    assert done == ["first", "second"]


def test_a_defect_in_one_piece_of_work_leaves_the_lane_open() -> None:
    lanes = Lanes(1, "test")
    ended = threading.Event()

    def fail() -> None:
        raise RuntimeError("a defect")

    lanes.submit(1, fail)
    lanes.submit(1, ended.set)
    assert ended.wait(LIMIT_S)
    again = threading.Event()
    lanes.submit(1, again.set)
    assert again.wait(LIMIT_S)
