"""How runs of ``perseus sim`` are told: one run, what is typed to see it again, what is drawn."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perseus.cli.console import Console, Fleeting
from perseus.cli.main import Invocation
from perseus.cli.units import UsageError
from perseus.errors import UnavailableError
from perseus.shellwords import as_file
from perseus.sim import diagram, repeat, trace
from perseus.sim.patience import STEP_LIMIT_S
from perseus.sim.runner import Plan
from perseus.sim.trace import Happened
from perseus.sim.watch import Outcome, Raised

FEED_INTERVAL_S = 0.2


class Feed:
    """A line on stderr that says how far it is, where stderr is a terminal."""

    def __init__(self, console: Console) -> None:
        self._line = Fleeting(console)
        self._told_s = 0.0

    def show(self, text: str) -> None:
        """Says it in place of what stands there, unless it was said just now."""
        now_s = time.monotonic()
        if now_s > self._told_s + FEED_INTERVAL_S:
            self._told_s = now_s
            self._line.show(text)

    def clear(self) -> None:
        """Takes it away."""
        self._told_s = 0.0
        self._line.clear()


def command(about: Plan, options: Any, seed: int) -> str:
    """What to type to see one run again."""
    words = ["perseus sim", about.target]
    if about.workload:
        words.append(f"--workload {about.workload}")
    words += [f"--seed {seed}", f"--nodes {about.nodes}"]
    if options.faults != "all":
        words.append(f"--faults {options.faults}")
    words.append(f"--time {about.until_s:g}")
    if about.step_limit_s != STEP_LIMIT_S:
        words.append(f"--step-limit {about.step_limit_s:g}")
    if about.keep is not None:
        words.append(f"--keep {','.join(map(str, about.keep)) or 'none'}")
    if about.is_calm:
        words.append("--calm")
    return " ".join(words)


def tell(invocation: Invocation, outcome: Outcome) -> None:
    """The verdict on one run."""
    console = invocation.console
    for error, times in outcome.errors.items():
        console.warn(f"a handler raised {times} times: {error}")
    if outcome.violation is None:
        console.line(
            f"seed {outcome.seed}: all properties held in {outcome.simulated_s:.1f} s,"
            f" {outcome.steps} steps, {outcome.crashes} crashes"
        )
    else:
        words = console.colour("broken", "red")
        at_s = outcome.violation.at_s
        console.line(f"seed {outcome.seed}: {words} after {at_s:.3f} s: {outcome.violation}")


def parted(seed: int, where: repeat.Parting) -> str:
    """A sentence on a run that does not repeat."""
    said = f"the run of seed {seed} does not repeat: "
    if where.number:
        said += f"two runs of it part at event {where.number}, first `{where.first}`,"
        said += f" then `{where.second}`"
    else:
        said += f"it ended with {where.first}, and with {where.second}"
    return f"{said}; {repeat.ADVICE}"


def show(invocation: Invocation, taken: trace.Trace) -> None:
    """What was asked for of the events: all of them, or a diagram."""
    console, options = invocation.console, invocation.options
    if options.trace and not console.as_json:
        console.line(trace.text(list(taken.events)))
    if options.diagram and not console.as_json:
        console.line(diagram.text(list(taken.events)))


def draw(invocation: Invocation, events: Sequence[Happened], title: str) -> None:
    """The picture, if one was asked for."""
    path = invocation.options.picture
    if path:
        keep_picture(path, diagram.svg(events, title))
        invocation.console.say(f"the picture is in {path}")


def keep_picture(path: str, drawn: str) -> None:
    """Writes a picture where a person wants it; raises UnavailableError."""
    try:
        Path(path).write_text(drawn)
    except OSError as error:
        raise UnavailableError(
            f"the picture cannot be kept in {path}: {error.strerror}",
            hint=f"ls -ld {as_file(os.path.dirname(path) or '.')}",
        ) from None


def title_of(outcome: Outcome) -> str:
    """What stands above the picture of a run."""
    return f"seed {outcome.seed}: {outcome.violation or 'all properties held'}"


def check_picture(path: str | None) -> None:
    """Raises UsageError when there will be no writing to it, before work is put into it."""
    if not path:
        return
    is_new = not Path(path).exists()
    try:
        with Path(path).open("ab"):
            pass
        if is_new:
            Path(path).unlink()
    except OSError as error:
        raise UsageError(
            f"--picture {path} cannot be written: {error.strerror}",
            hint="a file in a folder that is there: --picture run.svg",
        ) from None


def as_json(outcome: Outcome) -> dict[str, Any]:
    """One run."""
    violation = outcome.violation
    return {
        "seed": outcome.seed,
        "violation": None
        if violation is None
        else {"property": violation.name, "said": violation.said, "at_s": violation.at_s},
        "reached": sorted(outcome.reached),
        "steps": outcome.steps,
        "messages": outcome.messages,
        "crashes": outcome.crashes,
        "simulated_s": outcome.simulated_s,
        "errors": errors_as_json(outcome.errors),
    }


def errors_as_json(errors: Mapping[Raised, int]) -> dict[str, int]:
    """Exceptions, with their places, and how often."""
    return {str(error): times for error, times in errors.items()}
