"""``make bench``: Perseus beside its peers in one run; the table goes to docs/benchmarks.md.

``--quick`` is smaller and writes nothing; ``--only NAME`` takes one measurement.
"""

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

from bench.base import GIB, ROOT, Bench, Row
from bench.bulk import bulk
from bench.commands import client, many, run_true
from bench.footprint import cold_start, footprint
from bench.simulator import simulator

MEASUREMENTS: dict[str, Callable[[Bench], list[Row]]] = {
    "run": run_true,
    "client": client,
    "many": many,
    "bulk": bulk,
    "footprint": footprint,
    "cold": cold_start,
    "sim": simulator,
}
PAGE = ROOT / "docs" / "benchmarks.md"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller; the page is not written")
    parser.add_argument("--only", action="append", choices=list(MEASUREMENTS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pb-", ignore_cleanup_errors=True) as folder:
        bench = Bench(Path(folder), options.quick)
        rows = [row for name in options.only or MEASUREMENTS for row in _measure(name, bench)]
    text = page(rows, bench.skipped)
    print(text)
    if not options.quick and not options.only:
        PAGE.write_text(text)
    return 0


def _measure(name: str, bench: Bench) -> list[Row]:
    print(f"measuring: {name}", file=sys.stderr, flush=True)
    try:
        return MEASUREMENTS[name](bench)
    except Exception as error:
        bench.skip(name, f"{type(error).__name__}: {error}")
        return [Row(name, None, "", note="failed")]


def page(rows: list[Row], skipped: list[str]) -> str:
    """The page as Markdown."""
    lines = [
        "# Benchmarks",
        "",
        "Made by `make bench`; do not edit. All numbers are of one run on one machine;",
        "`ratio` is Perseus's number over the peer's.",
        "",
        f"{_machine()}, {date.today().isoformat()}.",
        "",
        "| what | measured | beside | ratio | target | reached |",
        "|---|---|---|---|---|---|",
        *(_line(row) for row in rows),
    ]
    if skipped:
        lines += ["", "Left out:", "", *(f"- {line}" for line in skipped)]
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    value = "failed" if row.value is None else f"{_number(row.value)} {row.unit}"
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    reached = {True: "yes", False: "**no**", None: ""}[row.reached]
    return f"| {row.what} | {value} | {row.beside} | {ratio} | {row.target} | {reached} |"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _machine() -> str:
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    kernel = f"{platform.system()} {platform.release().split('-')[0]}"
    cores = f"{os.cpu_count()} cores ({platform.machine()})"
    python = f"Python {platform.python_version()}"
    return f"{cores}, {memory_gib:.0f} GiB of memory, {kernel}, {python}"


if __name__ == "__main__":
    raise SystemExit(main())
