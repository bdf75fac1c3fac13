"""What a person lets befall the processes of a run: ``perseus algo kill`` and its like.

Each says what is so already, for then nothing happens: a process that is down is not killed, one
that is paused stays so. That is no error; what cannot be meant, or was not done, is one.
"""

import time
from collections.abc import Iterable, Sequence

from perseus.algo.process import Id
from perseus.cli.main import Invocation
from perseus.cli.units import UsageError, parse_duration_s
from perseus.errors import ConflictError, DeadlineError
from perseus.hosting.run import Run
from perseus.hosting.runs import Process, Runs
from perseus.proto.v1 import algo_pb2

# Between two looks at processes that were killed.
LOOK_AGAIN_S = 0.1
RESTART_LIMIT_S = 30.0


def kill(invocation: Invocation) -> int:
    """SIGKILL; waits until each process has started again."""
    runs, found, chosen = _chosen(invocation)
    before = {each.id: each for each in runs.look(found) if each.status}
    for process in _of(before.values(), chosen, "down"):
        ending = process.status.ending if process.status else ""
        invocation.console.say(
            f"{process.id} is down already: it {ending}; perseus logs --stderr {process.job_id}"
        )
    runs.befall(found, dict.fromkeys(chosen, _fault(algo_pb2.FAULT_KILL)))
    deadline_s = time.monotonic() + RESTART_LIMIT_S
    while time.monotonic() < deadline_s:
        again = {p.id for p in runs.look(found) if _is_again(p, before.get(p.id))}
        if again.issuperset(chosen):
            return 0
        time.sleep(LOOK_AGAIN_S)
    raise DeadlineError(
        f"not all of {', '.join(chosen)} have started again within {RESTART_LIMIT_S:.0f} s",
        hint=f"perseus algo ps {found.run}",
    )


def _is_again(process: Process, before: Process | None) -> bool:
    status = process.status
    if status is None or status.state not in ("up", "stuck"):
        return False
    known = before.status if before is not None else None
    return known is None or status.restarts > known.restarts


def pause(invocation: Invocation) -> int:
    """SIGSTOP."""
    runs, found, chosen = _chosen(invocation)
    for process in _of(runs.look(found), chosen, "paused"):
        again = f"perseus algo heal {found.run} {process.id}"
        invocation.console.say(f"{process.id} is paused already; it goes on with: {again}")
    answers = runs.befall(found, dict.fromkeys(chosen, _fault(algo_pb2.FAULT_PAUSE)))
    down = [process for process, status in answers.items() if status.state == "down"]
    if down:
        raise ConflictError(
            f"down just now, and so not paused: {', '.join(down)}",
            hint=f"again, when it is up: perseus algo ps {found.run}",
        )
    return 0


def slow(invocation: Invocation) -> int:
    """Loss and delay of what is heard."""
    options = invocation.options
    if not 0.0 <= options.loss <= 1.0:
        raise UsageError(f"--loss {options.loss} is no share", hint="0 to 1: --loss 0.2")
    request = _fault(algo_pb2.FAULT_SLOW)
    request.loss = options.loss
    request.delay_s = parse_duration_s(options.delay, "--delay")
    if not request.loss and not request.delay_s:
        raise UsageError(
            "neither loss nor delay is asked for",
            hint="--loss 0.2, or --delay 300ms; perseus algo heal takes both away",
        )
    runs, found, chosen = _chosen(invocation)
    runs.befall(found, dict.fromkeys(chosen, request))
    return 0


def heal(invocation: Invocation) -> int:
    """All faults are over, or those of some processes; then the others hear them again too."""
    runs = Runs(invocation.cluster)
    found = runs.get(invocation.options.run)
    spared = [each for each in found.nodes if each not in found.clients]
    named = runs.chosen(found, invocation.options.process) if invocation.options.process else []
    chosen = named or spared
    before = [each for each in runs.look(found) if each.status and _suffers(each, chosen)]
    requests = dict.fromkeys(spared, algo_pb2.BefallRequest(kind=algo_pb2.FAULT_HEAL))
    hearing = algo_pb2.BefallRequest(kind=algo_pb2.FAULT_HEAL, deaf_to=chosen)
    requests |= {each: hearing for each in spared if each not in chosen}
    runs.befall(found, requests)
    if not before:
        whom = ", ".join(named) if named else "any process"
        invocation.console.say(f"no fault was on {whom}; nothing is changed")
    return 0


def _suffers(process: Process, chosen: Sequence[Id]) -> bool:
    """Whether there is something to heal of it when these are healed."""
    status = process.status
    assert status is not None
    if process.id not in chosen:
        return bool(set(status.deaf_to) & set(chosen))
    is_slow = status.loss or status.delay_s
    return bool(status.deaf_to or is_slow or status.state == "paused")


def partition(invocation: Invocation) -> int:
    """Two sides."""
    options, runs = invocation.options, Runs(invocation.cluster)
    found = runs.get(options.run)
    one = runs.chosen(found, [options.one])
    if options.other is None:
        other = [each for each in found.nodes if each not in (*one, *found.clients)]
    else:
        other = runs.chosen(found, [options.other])
    _check_sides(found, one, other)
    runs.partition(found, one, other, options.one_way)
    return 0


def _check_sides(run: Run, one: Sequence[Id], other: Sequence[Id]) -> None:
    hint = f"perseus algo partition {run.run} A B, where A and B are as n1,n2"
    both = [process for process in one if process in other]
    if both:
        raise UsageError(f"{', '.join(both)} cannot be on both sides", hint=hint)
    if not other:
        raise UsageError(f"nobody is left for the other side of {', '.join(one)}", hint=hint)


def _chosen(invocation: Invocation) -> tuple[Runs, Run, list[Id]]:
    runs = Runs(invocation.cluster)
    found = runs.get(invocation.options.run)
    return runs, found, runs.chosen(found, invocation.options.process)


def _of(processes: Iterable[Process], chosen: Sequence[Id], state: str) -> list[Process]:
    return [each for each in processes if each.id in chosen and each.state == state]


def _fault(kind: algo_pb2.FaultKind) -> algo_pb2.BefallRequest:
    return algo_pb2.BefallRequest(kind=kind)
