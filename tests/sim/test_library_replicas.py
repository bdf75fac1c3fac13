"""Copies of one state under all faults, as they stand and broken: by agreement and without."""

from dataclasses import dataclass
from types import ModuleType

import pytest

from perseus.algo import Process
from perseus.sim.faults import PRESETS
from perseus.sim.runner import Plan
from tests.sim import library_bugs_agreement as agreement
from tests.sim import library_bugs_replication as replication
from tests.sim import library_bugs_vsr as vsr
from tests.sim.library_runs import assert_clean, assert_encodable, assert_listed, outcome_of


@dataclass
class Subject:
    """An algorithm and its broken forms, which stand in a module."""

    about: Plan
    bugs: list[type[Process]]
    module: ModuleType
    # For each mistake a seed that shows it, with
    # `perseus sim tests/sim/library_bugs_MODULE.py:NAME --faults FAULTS`.
    first_seeds: dict[str, int]
    # Runs of it as it stands.
    seeds: int = 20

    def __str__(self) -> str:
        return self.about.target.rpartition(":")[2]


def plan(target: str, faults: str = "all") -> Plan:
    return Plan(f"perseus.algo.library.{target}", PRESETS[faults])


SUBJECTS = [
    Subject(
        plan("paxos:Paxos"),
        [*agreement.PAXOS],
        agreement,
        {
            "VolatilePromise": 208,
            "VolatileVotes": 4,
            "TakesTheLowestVote": 27,
            "AcceptsOldBallots": 88,
            "LeavesGaps": 71,
            "AcceptsInMemory": 0,
            "DoesTwice": 1,
        },
    ),
    Subject(
        plan("vsr:Vsr"),
        [*vsr.DURABLE],
        vsr,
        {
            "CommitsByHalf": 19,
            "TakesTheLongestLog": 236,
            "TakesTheFirstLog": 0,
            "CutsBeforeItKnows": 138,
            "PreparesWithGaps": 0,
            "ObeysOldPrimaries": 3,
            "StartsOldViews": 2,
            "VolatileView": 19,
            "VolatileLog": 0,
            "DoesTwice": 4,
            "ReadsAtOnce": 21,
        },
    ),
    Subject(
        plan("vsr:InMemory", "minority"),
        [*vsr.IN_MEMORY],
        vsr,
        {
            "ComesBackEmpty": 0,
            "RecoversFromAnybody": 487,
            "TakesPartWhileItRecovers": 21,
        },
    ),
    Subject(
        plan("register:Register"),
        [*agreement.REGISTER],
        agreement,
        {
            "ReadsOnceRegister": 83,
            "TooFewRegister": 5,
            "BlindRegister": 0,
            "SharedTagsRegister": 0,
            "VolatileRegister": 0,
            "StoresTheLast": 0,
        },
    ),
    Subject(
        plan("crdt:Replica"),
        [*replication.CRDT],
        replication,
        {
            "TheLastToComeWins": 0,
            "StampsWithTheClock": 1,
            "AddsWhatComes": 0,
            "BringsBackWhatWasRemoved": 0,
            "EditsInMemory": 0,
            "ForgetsWhatItSaw": 0,
        },
        seeds=10,
    ),
    Subject(
        plan("merkle:AntiEntropy"),
        [*replication.MERKLE],
        replication,
        {
            "HashesOnlyKeys": 0,
            "GivesAndDoesNotTake": 0,
            "KeepsItemsInMemory": 0,
            "KeepsAnOldTree": 1,
        },
        seeds=10,
    ),
]


@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_it_holds(subject: Subject) -> None:
    assert_clean(subject.about, range(subject.seeds))


@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_all_of_it_can_be_sent_and_kept(subject: Subject) -> None:
    assert_encodable(subject.about)


@pytest.mark.parametrize(
    ("subject", "bug"),
    [(subject, bug) for subject in SUBJECTS for bug in subject.bugs],
    ids=lambda each: each.__name__ if isinstance(each, type) else str(each),
)
def test_a_mistake_is_found(subject: Subject, bug: type[Process]) -> None:
    seed = subject.first_seeds[bug.__name__]
    outcome = outcome_of(subject.about, bug, str(subject.module.__file__), seed)
    assert outcome.violation is not None


@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_every_mistake_has_its_seed(subject: Subject) -> None:
    assert_listed(subject.bugs, subject.first_seeds)
