"""Seeds over several processes: their order, what they raise, and how they end."""

import os
import signal
from contextlib import closing

import pytest

from perseus.errors import InvalidError
from perseus.sim.parallel import DiedError, _Crew, spread


def double(seed: int) -> int:
    return 2 * seed


@pytest.mark.parametrize("count", [1, 2, 3, 9, 200])
def test_outcomes_come_in_the_order_of_seeds(count: int) -> None:
    seeds = range(7, 7 + count)
    assert list(spread(double, seeds, 3)) == [2 * seed for seed in seeds]


def test_the_first_of_them_that_raises_is_heard_after_those_before_it() -> None:
    def run(seed: int) -> int:
        if seed in (12, 17):
            raise InvalidError(f"seed {seed}", hint="this")
        return seed

    taken: list[int] = []
    with pytest.raises(InvalidError, match="seed 12") as caught:
        taken.extend(spread(run, range(40), 2))
    assert caught.value.hint == "this"
    assert taken == list(range(12))


@pytest.mark.parametrize(
    ("end", "code"), [(lambda: os._exit(3), 3), (lambda: os.kill(os.getpid(), 9), -9)]
)
def test_a_process_that_ends_is_told_with_its_seed(end: object, code: int) -> None:
    def run(seed: int) -> int:
        if seed == 5:
            assert callable(end)
            end()
        return seed

    taken: list[int] = []
    with pytest.raises(DiedError) as caught:
        taken.extend(spread(run, range(40), 2))
    assert taken == [0, 1, 2, 3, 4]
    assert (caught.value.seed, caught.value.code) == (5, code)


def test_who_has_enough_leaves_no_process_behind() -> None:
    def run(seed: int) -> int:
        if seed > 2:
            signal.pause()
        return os.getpid()

    pids = set()
    with closing(spread(run, range(40), 2)) as outcomes:
        for _ in range(3):
            pids.add(next(outcomes))
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_no_more_is_begun_than_is_taken_off() -> None:
    """Else the outcomes of a long series would pile up behind a slow run."""
    crew = _Crew(double, range(1000), 2)
    try:
        while crew.hear(1.0):
            for member in crew._members:
                crew._give(member, 0)
        assert len(crew._made) <= crew._ahead < 1000
    finally:
        crew.end()


def test_whoever_waits_is_told_that_it_goes_on() -> None:
    told: list[int] = []
    ours, theirs = os.pipe()

    def run(seed: int) -> int:
        return int(os.read(ours, 1)) if seed == 0 else seed

    def beat() -> None:
        told.append(1)
        os.write(theirs, b"7")

    assert list(spread(run, range(2), 2, beat)) == [7, 1]
    assert told
    os.close(ours)
    os.close(theirs)
