"""The command ``perseus sim``; a part of ``cli.parser``."""

from perseus.cli.parser_base import Parser, Subparsers, command, whole


def add(commands: Subparsers) -> None:
    """Adds it to the tree."""
    sim = command(
        commands,
        "sim",
        "run a distributed algorithm under faults, from seeds, and show what breaks",
        "simulation:simulate",
        """
perseus sim raft.py:Raft --nodes 5 --seeds 1000
perseus sim raft.py:Raft --seeds 100000 --cluster
perseus sim perseus.algo.library.kv:Kv
perseus sim my.py:Node --workload broadcast --nodes 5 --seeds 200
perseus sim lock.py:Lock --explore --nodes 3 --timeouts 3 --crashes 1
perseus sim raft.py:Raft --seed 410 --diagram --picture raft.svg""",
    )
    sim.add_argument("target", metavar="FILE:CLASS", help="or MODULE:CLASS; also a Layout")
    sim.add_argument(
        "--workload",
        default="",
        metavar="NAME",
        help="the problem it solves: echo, broadcast, lin-kv, ...; see docs/workloads.md",
    )
    sim.add_argument("--nodes", type=whole(), default=5, metavar="N", help="default 5")
    sim.add_argument("--seeds", type=whole(), default=100, metavar="N", help="runs; default 100")
    sim.add_argument(
        "--first", type=whole(), default=0, metavar="SEED", help="the first; default 0"
    )
    sim.add_argument("--time", default="60", metavar="TIME", help="simulated, of each; default 60s")
    sim.add_argument(
        "--faults",
        default="all",
        metavar="WHICH",
        help="none, network, crash, some, steady, all, deadly or minority",
    )
    sim.add_argument("--cluster", action="store_true", help="on all nodes, as an array job")
    sim.add_argument(
        "--processes", type=whole(), default=0, metavar="N", help="at once; default: one a core"
    )
    sim.add_argument(
        "--step-limit",
        default="10s",
        metavar="TIME",
        help="true time of a step; default 10s, 0 for no limit",
    )
    sim.add_argument("--no-shrink", action="store_true", help="do not make a failing run smaller")
    _add_explore(sim)
    _add_one(sim)


def _add_explore(sim: Parser) -> None:
    every = sim.add_argument_group("all orders of a small configuration, instead of seeds")
    every.add_argument("--explore", action="store_true", help="try every order of events")
    every.add_argument("--depth", type=whole(), default=30, metavar="N", help="events; default 30")
    every.add_argument("--timeouts", type=whole(), default=4, metavar="N", help="timers; default 4")
    every.add_argument("--crashes", type=whole(), default=1, metavar="N", help="default 1")
    every.add_argument(
        "--states", type=whole(), default=200_000, metavar="N", help="at most; default 200000"
    )


def _add_one(sim: Parser) -> None:
    one = sim.add_argument_group("one run again")
    one.add_argument("--seed", type=whole(), metavar="SEED", help="run this one and show it")
    one.add_argument("--keep", metavar="N,N", help="of its faults only these, or none")
    one.add_argument("--calm", action="store_true", help="no message is lost, doubled or late")
    one.add_argument(
        "--trace", action="store_true", help="print each event, also of a run that broke"
    )
    one.add_argument("--diagram", action="store_true", help="draw its end in columns of text")
    one.add_argument("--picture", metavar="FILE.svg", help="draw its end as a picture")
