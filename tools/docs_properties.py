"""Makes docs/reference/properties.md: what is looked at in runs of each algorithm."""

import inspect

import soak

from perseus.algo.properties import Property, properties_of
from perseus.sim.load import load

LIBRARY = "perseus.algo.library"
INTRODUCTION = """\
# Properties of the library

Made from the program by `make docs`; do not edit.

What `perseus sim` and `perseus algo check` look at in runs of each of [the
algorithms](../algorithms.md#the-library): `always` after each step, `eventually` within a time
after the faults, `sometimes` in one run at least, `at_end` once of a whole run.
"""


def targets() -> list[str]:
    """All of the library that runs, as it is named to ``perseus sim``."""
    return [f"{LIBRARY}.{name}" for name in ("raft:Raft", "kv:Kv", *soak.ALGORITHMS)]


def properties(target: str) -> list[Property]:
    """Those of its layout and of the classes in it, each once, in their order."""
    layout = load(target)
    found = {id(each): each for each in properties_of(layout)}
    for group in layout.groups.values():
        found |= {id(each): each for each in properties_of(group.kind)}
    return list(found.values())


def page() -> str:
    """The page."""
    parts = [INTRODUCTION]
    for target in targets():
        name = target.removeprefix(f"{LIBRARY}.")
        parts.append(f"\n## {name}\n\n| | property | meaning |\n|---|---|---|\n")
        parts += [_row(each) for each in properties(target)]
    return "".join(parts)


def _row(each: Property) -> str:
    within = f", within {each.within_s:g} s" if each.kind == "eventually" else ""
    meaning = " ".join((inspect.getdoc(each.check) or "").split()).replace("|", "\\|")
    return f"| `{each.kind}` | {each.name}{within} | {meaning} |\n"


def bare() -> list[str]:
    """Properties without a text."""
    names = {each.name for t in targets() for each in properties(t) if not each.check.__doc__}
    return [f"property {name}" for name in sorted(names)]
