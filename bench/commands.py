"""Short commands: one ``true`` from the shell, one from Python, many in one job."""

import statistics
import time

from bench.base import Bench, Row, local_cluster, medians, perseus_command, run
from bench.peers import one_command

RUN_TARGET_MS = 60.0
CLIENT_TARGET_MS = 5.0
MANY_TARGET = 600.0
MANY_RATIO_TARGET = 0.5


def run_true(bench: Bench) -> list[Row]:
    """``perseus run true``, the whole command, warm, by turns with its peers."""
    with local_cluster(bench, 1) as environment, one_command(bench, "true") as timers:
        timers["perseus run true"] = lambda: run([perseus_command(), "run", "true"], environment)
        taken_ms = {name: 1000 * seconds for name, seconds in medians(timers, bench.rounds).items()}
    own_ms = taken_ms.pop("perseus run true")
    rows = [
        Row("perseus run true", own_ms, "ms", f"<= {RUN_TARGET_MS:.0f}", own_ms <= RUN_TARGET_MS)
    ]
    for name, peer_ms in taken_ms.items():
        beaten = name in ("GNU parallel", "ssh")
        rows.append(
            Row(
                f"perseus run true beside {name}",
                peer_ms,
                "ms",
                "below it" if beaten else "",
                own_ms < peer_ms if beaten else None,
                name,
                own_ms / peer_ms,
            )
        )
    return rows


def client(bench: Bench) -> list[Row]:
    """Submit to result through the warm Python client."""
    import os

    import perseus

    with local_cluster(bench, 1) as environment:
        os.environ["PERSEUS_CONTEXT"] = environment["PERSEUS_CONTEXT"]
        taken_ms = []
        with perseus.connect() as cluster:
            for number in range(bench.rounds + 5):
                start = time.perf_counter()
                cluster.run(["true"]).wait()
                if number >= 5:
                    taken_ms.append(1000 * (time.perf_counter() - start))
        del os.environ["PERSEUS_CONTEXT"]
    median_ms = statistics.median(taken_ms)
    target = f"<= {CLIENT_TARGET_MS:.0f}"
    return [
        Row(
            "Python client, submit to result",
            median_ms,
            "ms",
            target,
            median_ms <= CLIENT_TARGET_MS,
        )
    ]


def many(bench: Bench) -> list[Row]:
    """Many ``true`` in one job, two at a time, against ``xargs -P2``."""
    count = str(bench.tasks)
    own = [perseus_command(), "run", "--count", count, "--parallel", "2", "--cpu", "0.5", "true"]
    xargs = ["sh", "-c", f"seq {count} | xargs -P2 -n1 true"]
    with local_cluster(bench, 1) as environment:
        taken = medians(
            {"perseus": lambda: run(own, environment), "xargs": lambda: run(xargs)},
            1 if bench.quick else 3,
        )
    rate, peer = bench.tasks / taken["perseus"], bench.tasks / taken["xargs"]
    reached = rate >= MANY_TARGET and rate >= MANY_RATIO_TARGET * peer
    target = f">= {MANY_TARGET:.0f} and >= {MANY_RATIO_TARGET} x xargs -P2"
    return [
        Row(f"{count} x true in one job, 2 at a time", rate, "/s", target, reached),
        Row(f"{count} x true beside xargs -P2", peer, "/s", "", None, "xargs -P2", rate / peer),
    ]
