"""The commands of ``perseus algo``; a part of ``cli.parser``."""

from perseus.cli.parser_base import Parser, Subparsers, command, group, whole


def add(commands: Subparsers) -> None:
    """Adds the group to the tree."""
    algo = group(
        commands,
        "algo",
        "run a distributed algorithm for real",
        "perseus algo run perseus.algo.library.kv:Kv --nodes 5\n"
        "perseus algo kill @last n1\n"
        "perseus algo check @last",
    )
    _add_runs(algo)
    _add_faults(algo)
    bridge = command(
        algo,
        "maelstrom",
        "be one node under Maelstrom, by its protocol on stdin and stdout",
        "algorithms:maelstrom",
        "maelstrom test -w echo --bin ./run.sh     where run.sh has\n"
        "exec perseus algo maelstrom echo.py:Server",
    )
    bridge.add_argument("target", metavar="FILE:CLASS", help="or MODULE:CLASS")


def _of_a_run(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="an id, or @last")


def _add_runs(algo: Subparsers) -> None:
    run = command(
        algo,
        "run",
        "start the processes of an algorithm on the nodes, and print the run's id",
        "runs:run",
        "perseus algo run raft.py:Raft --nodes 5\nperseus algo run perseus.algo.library.kv:Kv\n"
        "perseus algo run my.py:Node --workload broadcast",
    )
    run.add_argument("target", metavar="FILE:CLASS", help="or MODULE:CLASS; also a Layout")
    run.add_argument(
        "--workload",
        default="",
        metavar="NAME",
        help="the problem it solves: echo, broadcast, lin-kv, ...; see docs/workloads.md",
    )
    run.add_argument("--nodes", type=whole(), default=5, metavar="N", help="processes; default 5")
    ps = command(
        algo, "ps", "list runs, or the processes of one", "runs:ps", "perseus algo ps @last"
    )
    ps.add_argument("run", nargs="?", metavar="RUN", help="an id, or @last")
    watch = command(
        algo,
        "watch",
        "show the processes and what they do, live, until it is stopped",
        "runs:watch",
        "perseus algo watch @last\nperseus algo watch @last --process n1,n2",
    )
    _of_a_run(watch)
    watch.add_argument("--process", metavar="ID,ID", help="of these alone")
    watch.add_argument("--all", action="store_true", help="from the beginning")
    check = command(
        algo,
        "check",
        "check the properties of an algorithm on the traces of a run",
        "runs:check",
        "perseus algo check @last      ends with 1: broken, 3: a part of the traces is not there\n"
        "perseus algo check 7k3m0a --picture run.svg",
    )
    _of_a_run(check)
    check.add_argument("--trace", action="store_true", help="print each event")
    check.add_argument("--diagram", action="store_true", help="draw its end in columns of text")
    check.add_argument("--picture", metavar="FILE.svg", help="draw its end as a picture")
    stop = command(
        algo,
        "stop",
        "end a run and remove what was durable to it",
        "runs:stop",
        "perseus algo stop @last\nperseus algo stop 7k3m0a --keep",
    )
    _of_a_run(stop)
    stop.add_argument("--keep", action="store_true", help="leave what was durable on the nodes")


def _add_faults(algo: Subparsers) -> None:
    kill = command(
        algo,
        "kill",
        "kill processes (SIGKILL); they start again with what was durable",
        "run_faults:kill",
        "perseus algo kill @last n1\nperseus algo kill @last n1,n2,n3",
    )
    pause = command(
        algo,
        "pause",
        "hold processes still (SIGSTOP) until they are healed",
        "run_faults:pause",
        "perseus algo pause @last n2",
    )
    for one in (kill, pause):
        _of_a_run(one)
        one.add_argument("process", nargs="+", metavar="PROCESS", help="as n1, or n1,n2")
    partition = command(
        algo,
        "partition",
        "let two sides hear nothing of each other until they are healed",
        "run_faults:partition",
        "perseus algo partition @last n1,n2\n"
        "perseus algo partition @last n1 n2,n3\n"
        "perseus algo partition @last n1 n2 --one-way     n2 does not hear n1",
    )
    _of_a_run(partition)
    partition.add_argument("one", metavar="A", help="processes, as n1,n2")
    partition.add_argument(
        "other", nargs="?", metavar="B", help="the other side; default: all others but clients"
    )
    partition.add_argument("--one-way", action="store_true", help="B does not hear A, A hears B")
    slow = command(
        algo,
        "slow",
        "let what processes hear be lost or late until they are healed",
        "run_faults:slow",
        "perseus algo slow @last n1,n2 --loss 0.2 --delay 300ms",
    )
    _of_a_run(slow)
    slow.add_argument("process", nargs="+", metavar="PROCESS", help="as n1, or n1,n2")
    slow.add_argument("--loss", type=float, default=0.0, metavar="SHARE", help="0 to 1")
    slow.add_argument("--delay", default="0s", metavar="TIME", help="each by up to so much")
    heal = command(
        algo,
        "heal",
        "take all faults away: partitions, pauses, loss",
        "run_faults:heal",
        "perseus algo heal @last\nperseus algo heal @last n1      others hear it again too",
    )
    _of_a_run(heal)
    heal.add_argument("process", nargs="*", metavar="PROCESS", help="default: all")
