"""Many seeds of ``perseus sim``: runs them, and tells what held, or makes what broke smaller."""

import sys
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from perseus.algo.layout import Layout
from perseus.algo.properties import Property
from perseus.cli.commands import simulated
from perseus.cli.main import Invocation
from perseus.cli.units import UsageError
from perseus.sim import repeat, runner, shrink, trace
from perseus.sim.patience import ENDLESS
from perseus.sim.runner import Plan
from perseus.sim.watch import Outcome, Raised, count

SEEDS_MAXIMUM = 10_000_000
EXIT_INTERRUPTED = 130


@dataclass
class Series:
    """Its verdict is the exit code: 1 when a property broke or a "sometimes" never came, when
    the runs do not repeat, or when a handler raised at one place in every run."""

    invocation: Invocation
    about: Plan
    layout: Layout
    begun_s: float = field(default_factory=time.monotonic)
    done: int = 0
    steps: int = 0
    simulated_s: float = 0.0
    reached: Counter[str] = field(default_factory=Counter)
    errors: dict[Raised, int] = field(default_factory=dict)
    # In how many runs a handler raised at a place.
    runs_with: Counter[Any] = field(default_factory=Counter)
    # The run of the first seed.
    first: Outcome | None = None

    def __post_init__(self) -> None:
        self.feed = simulated.Feed(self.invocation.console)

    def run(self) -> int:
        """Until one fails, or all have run."""
        options = self.invocation.options
        if not 1 <= options.seeds <= SEEDS_MAXIMUM:
            raise UsageError(f"--seeds {options.seeds} is not possible", hint="--seeds 1000")
        seeds = range(options.first, options.first + options.seeds)
        failed = None
        try:
            with closing(self._outcomes(seeds)) as outcomes:
                for outcome in outcomes:
                    self._count(outcome)
                    if outcome.violation is not None:
                        failed = outcome
                        break
                    self._progress()
        except KeyboardInterrupt:
            self.feed.clear()
            return self._interrupted()
        self.feed.clear()
        return self._held() if failed is None else self._failed(failed)

    def _outcomes(self, seeds: Sequence[int]) -> Generator[Outcome, None, None]:
        """In the order of the seeds, from wherever they are run."""
        parallel = self.invocation.options.processes
        if not self.invocation.options.cluster:
            return runner.run_many(self.about, seeds, parallel, self._progress)
        from perseus.hosting import seeds as hosted

        cluster, tell = self.invocation.cluster, self.invocation.console.say
        return hosted.run_many(cluster, self.about, seeds, parallel, tell)

    def _count(self, outcome: Outcome) -> None:
        self.first = self.first or outcome
        self.done += 1
        self.steps += outcome.steps
        self.simulated_s += outcome.simulated_s
        self.reached.update(outcome.reached)
        for error, times in outcome.errors.items():
            count(self.errors, error, times)
            self.runs_with[error.key] += 1

    def _progress(self) -> None:
        took_s = time.monotonic() - self.begun_s
        self.feed.show(f"{self.done} of {self.invocation.options.seeds} seeds, {took_s:.0f} s")

    # All held.

    def _held(self) -> int:
        assert self.first is not None
        # Whether it goes the same way; and only a run knows what it spawns.
        again = repeat.again(self.about, self.first)
        notes = [simulated.parted(self.first.seed, again.parting)] if again.parting else []
        missing = self._missing(again.properties)
        everywhere = [error for error in self.errors if self.runs_with[error.key] == self.done]
        if self.invocation.console.as_json:
            self._json(missing, notes)
        else:
            self._tell_properties(again.properties, "held")
            self._tell_held(missing, notes, everywhere)
        return 1 if missing or notes or everywhere else 0

    def _missing(self, properties: Sequence[Property]) -> list[str]:
        wanted = [each.name for each in properties if each.kind == "sometimes"]
        return [name for name in wanted if name not in self.reached]

    def _tell_held(
        self, missing: Sequence[str], notes: Sequence[str], everywhere: Sequence[Raised]
    ) -> None:
        console = self.invocation.console
        self._tell_errors()
        for error in everywhere:
            console.warn(f"no run was without this exception: {error}")
        for name in missing:
            console.warn(f"no run reached `{name}`: the runs prove little; more --seeds or --time?")
        for note in notes:
            console.warn(note)

    def _tell_properties(self, properties: Sequence[Property], held: str) -> None:
        console = self.invocation.console
        for one in properties:
            share = f"in {self.reached[one.name]} of {self.done} runs"
            console.line(f"{one.kind:10}  {one.name}: {share if one.kind == 'sometimes' else held}")
        took_s = time.monotonic() - self.begun_s
        console.say(
            f"{self.done} seeds, {self.simulated_s:.0f} simulated seconds in {took_s:.1f} s"
        )

    def _tell_errors(self) -> None:
        for error, times in sorted(self.errors.items(), key=lambda item: -item[1]):
            runs = f"in {self.runs_with[error.key]} of {self.done} runs"
            self.invocation.console.warn(f"a handler raised {times} times, {runs}: {error}")

    def _json(self, missing: Sequence[str], notes: Sequence[str]) -> None:
        self.invocation.console.json(
            {
                "seeds": self.done,
                "violation": None,
                "never_reached": missing,
                "simulated_s": self.simulated_s,
                "steps": self.steps,
                "seconds": time.monotonic() - self.begun_s,
                "errors": simulated.errors_as_json(self.errors),
                "notes": [*repeat.strays(self.layout), *notes],
            }
        )

    def _interrupted(self) -> int:
        """What is known when somebody has enough."""
        properties = runner.world(self.about, self.invocation.options.first).properties
        if self.invocation.console.as_json:
            self._json(self._missing(properties), ["interrupted"])
        else:
            if self.done:
                self._tell_properties(properties, "held so far")
            self._tell_errors()
            total = self.invocation.options.seeds
            self.invocation.console.say(f"interrupted: {self.done} of {total} seeds have run")
        return EXIT_INTERRUPTED

    # One failed.

    def _failed(self, outcome: Outcome) -> int:
        """Tells at once what broke, for the rest takes time."""
        console, options = self.invocation.console, self.invocation.options
        replay = simulated.command(self.about, options, outcome.seed)
        code, taken = 1, trace.Trace()
        smaller, last = _Smaller(self.about), outcome
        try:
            if not console.as_json:
                simulated.tell(self.invocation, outcome)
                console.line(f"again:   {replay}")
                sys.stdout.flush()
            smaller = self._smaller(outcome)
            if options.picture or options.diagram or options.trace:
                last = runner.run_one(smaller.about, outcome.seed, taken)
        except KeyboardInterrupt:
            code = EXIT_INTERRUPTED
            smaller.notes.append("interrupted before it was made smaller, or drawn")
        self.feed.clear()
        shorter = simulated.command(smaller.about, options, outcome.seed)
        if console.as_json:
            notes = [*repeat.strays(self.layout), *smaller.notes]
            more = {"replay": replay, "shrunk": shorter, "notes": notes}
            console.json(simulated.as_json(outcome) | more)
        else:
            if smaller.said:
                console.line(f"smaller: {shorter}")
            for sentence in [*smaller.said, *smaller.notes]:
                console.say(sentence)
        if taken.count:
            simulated.show(self.invocation, taken)
            title = simulated.title_of(last)
            simulated.draw(self.invocation, list(taken.events), title)
        return code

    def _smaller(self, outcome: Outcome) -> "_Smaller":
        assert outcome.violation is not None
        if outcome.violation.name == ENDLESS:
            return _Smaller(self.about)
        if (parting := repeat.again(self.about, outcome).parting) is not None:
            return _Smaller(self.about, notes=[simulated.parted(outcome.seed, parting)])
        if self.invocation.options.no_shrink:
            return _Smaller(self.about)
        found = shrink.shrink(self.about, outcome, self._beat)
        return _Smaller(found.about, _told(outcome, found))

    def _beat(self, runs: int) -> None:
        self.feed.show(f"making it smaller: {runs} runs")


@dataclass
class _Smaller:
    """The plan of a smaller run; what there is to say of it, and to note of the program."""

    about: Plan
    said: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _told(outcome: Outcome, found: shrink.Shrunk) -> list[str]:
    count = len(found.about.keep or ())
    faults = f"{count} fault{'' if count == 1 else 's'}"
    calm = ", no loss of messages" if found.about.is_calm else ""
    events = f"{found.outcome.events} events instead of {outcome.events}"
    return [
        f"made smaller in {found.runs} runs: {faults}{calm}, {events}",
        f"which breaks as: {found.violation}",
    ]
