"""The whole command line as an argparse tree, with help and examples for each command.

``build_parser`` is pure and complete: the reference page and the completions
are made from it. A command's handler is named, not imported: "module:function"
under ``perseus.cli.commands``, loaded when the command runs.
"""

import argparse
from typing import Any

from perseus.cli import (
    parser_algo,
    parser_files,
    parser_meanings,
    parser_nodes,
    parser_sim,
    runspec,
)
from perseus.cli.parser_base import COMMON, Parser, Subparsers, children, command, group, whole

__all__ = ["Parser", "build_parser", "children", "leaves"]

MAIN_EPILOG = """\
examples:
  perseus run -- uname -a                     run on the best node, as if it were here
  perseus run -- sort -u < big.txt            stdin, stdout and exit code pass through
  perseus run --stdin /logs/a.txt -- wc -l    read stdin from the filestore
  perseus submit --count 100 -- /srv/work     100 tasks; prints the job's id
  perseus logs -f @last                       follow the latest job
  perseus fs put big.txt /data/big.txt        copy into the filestore
  perseus doctor                              what is wrong, and what mends it

exit codes: the task's own; 2 usage; 124 time limit; 125 a failure of Perseus itself;
126 not executable; 127 not found; 128+N signal N, also of a cancelled task unless it caught
the signal and chose another code than 0; 1 when doctor finds an error.
`perseus COMMAND --help` says more about each.
"""


def build_parser() -> Parser:
    """The tree of all commands."""
    parser = Parser(
        prog="perseus",
        description="One shell over a cluster of computers.",
        epilog=MAIN_EPILOG,
        parents=[COMMON],
    )
    parser.add_argument("--version", action="store_true", help="show the version of this program")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    _add_work(commands)
    _add_jobs(commands)
    parser_files.add(commands)
    parser_nodes.add(commands)
    parser_sim.add(commands)
    parser_algo.add(commands)
    _add_here(commands)
    for leaf in leaves(parser).values():
        parser_meanings.explain(leaf)
    return parser


def _add_work(commands: Subparsers) -> None:
    run = command(
        commands,
        "run",
        "run a program on the cluster in the foreground",
        "work:run",
        """
perseus run -- uname -a
perseus run --cpu 2 --memory 1G -- make -j2
perseus run --stdin /logs/a.txt --file words=/data/words -- grep -f words
perseus run --count 8 --parallel 4 -- sh -c 'echo $PERSEUS_TASK_INDEX'
perseus run -- sort -u < big.txt > sorted.txt""",
    )
    _run_flags(run)
    submit = command(
        commands,
        "submit",
        "submit a job and print its id alone",
        "work:submit",
        """
perseus submit -- sleep 3600
id=$(perseus submit --count 100 -- sh -c 'echo $PERSEUS_TASK_INDEX'); perseus wait $id
perseus fs put work.sh /work.sh && perseus submit --file work.sh=/work.sh -- ./work.sh""",
    )
    # It never waits, so there is nothing to detach from.
    _run_flags(submit, without="--detach")


def _run_flags(parser: Parser, without: str = "") -> None:
    short = {flag: letter for letter, flag in runspec.SHORT.items()}
    for flag, (dest, how, metavar, text) in runspec.FLAGS.items():
        if flag == without:
            continue
        names = [short[flag], flag] if flag in short else [flag]
        if how == "switch":
            parser.add_argument(*names, dest=dest, action="store_true", help=text)
        else:
            action = "append" if how == "list" else "store"
            parser.add_argument(*names, dest=dest, action=action, metavar=metavar, help=text)
    parser.add_argument(
        "argv", nargs=argparse.REMAINDER, metavar="-- CMD ARGS", help="the program, as it stands"
    )


def _add_jobs(commands: Subparsers) -> None:
    ps = command(commands, "ps", "list jobs, newest first", "jobs:ps", "perseus ps\nperseus ps -a")
    ps.add_argument("job", nargs="*", metavar="ID", help="these alone, with their tasks")
    ps.add_argument("-a", "--active", action="store_true", help="only jobs that have not ended")
    ps.add_argument("-n", "--limit", type=whole(1), default=20, help="at most so many (default 20)")
    logs = command(
        commands,
        "logs",
        "show the output of a job from the first byte",
        "jobs:logs",
        "perseus logs @last\nperseus logs -f --stderr 7k3m\nperseus logs --task 3 7k3m",
    )
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the job has ended")
    logs.add_argument("--stdout", action="store_true", help="stdout alone")
    logs.add_argument("--stderr", action="store_true", help="stderr alone")
    logs.add_argument("--task", type=whole(0), metavar="N", help="one task, counted from 0")
    _job_argument(logs)
    wait = command(
        commands,
        "wait",
        "wait for a job and exit with its code",
        "jobs:wait",
        "perseus wait @last\nperseus wait --timeout 10m 7k3m",
    )
    wait.add_argument("--timeout", metavar="TIME", help="give up after this long (exit code 124)")
    _job_argument(wait)
    kill = command(
        commands,
        "kill",
        "send a signal to a job's tasks; TERM and KILL cancel it",
        "jobs:kill",
        "perseus kill 7k3m\nperseus kill -s USR1 @last",
    )
    kill.add_argument("-s", "--signal", default="TERM", help="name or number (default TERM)")
    _job_argument(kill, nargs="+")
    attach = command(
        commands,
        "attach",
        "follow a running job; ^C goes to it, a second ^C, TERM or a closed terminal leaves it "
        "running",
        "jobs:attach",
        "perseus attach @last",
    )
    _job_argument(attach)
    retry = command(
        commands,
        "retry",
        "run the tasks of a job that did not finish well once more",
        "jobs:retry",
        "perseus retry 7k3m && perseus attach 7k3m",
    )
    _job_argument(retry)
    why = command(
        commands,
        "why",
        "say why a job waits, where it was placed, what was retried",
        "jobs:why",
        "perseus why @last",
    )
    _job_argument(why)


def _job_argument(parser: Parser, nargs: str | None = None) -> None:
    options: dict[str, Any] = (
        {"metavar": "ID"} if nargs is None else {"metavar": "ID", "nargs": nargs}
    )
    parser.add_argument("job", help="a job's id, the beginning of one, or @last", **options)


def _add_here(commands: Subparsers) -> None:
    command(
        commands, "doctor", "what is wrong, and what mends it", "doctor:doctor", "perseus doctor"
    )
    context = group(
        commands,
        "context",
        "choose the cluster that commands speak to",
        "perseus context ls\nperseus context use lab",
    )
    command(context, "ls", "list contexts", "context:ls", "perseus context ls")
    use = command(
        context,
        "use",
        "make a context the one in use",
        "context:use",
        "perseus context use lab\nperseus context use /tmp/lab/context.json",
    )
    use.add_argument("name", metavar="NAME|FILE")
    completion = command(
        commands,
        "completion",
        "print a shell's completion script; it also completes nodes, jobs, paths and contexts",
        "completion:completion",
        'eval "$(perseus completion bash)"\nperseus completion fish | source',
    )
    completion.add_argument("shell", choices=["bash", "zsh", "fish"])
    command(commands, "version", "show versions", "here:version", "perseus version")
    help_command = command(
        commands, "help", "explain a command", "here:show_help", "perseus help run"
    )
    help_command.add_argument("topic", nargs="*", metavar="COMMAND")


def leaves(parser: argparse.ArgumentParser | None = None) -> "dict[str, argparse.ArgumentParser]":
    """All commands by their words ("fs put"), for the reference and the completions."""
    found: dict[str, argparse.ArgumentParser] = {}
    for name, child in children(parser or build_parser()).items():
        below = leaves(child)
        if child.get_default("handler"):
            found[name] = child
        found |= {f"{name} {rest}": one for rest, one in below.items()}
    return found
