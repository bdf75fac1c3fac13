"""The whole command line as an argparse tree, with help and examples for each command.

``build_parser`` is pure and complete: the reference page and the completions
are made from it. A command's handler is named, not imported: "module:function"
under ``perseus.cli.commands``, loaded when the command runs.
"""

import argparse
from typing import Any, NoReturn

from perseus.cli import parser_algo, parser_meanings, runspec
from perseus.cli.units import UsageError

Subparsers = Any

# Absent flags leave no default, so that they can stand before or after a second command.
COMMON = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
_common = COMMON.add_argument_group("everywhere")
_common.add_argument(
    "--json", action="store_true", help="answer in JSON, errors too; a line for each event"
)
_common.add_argument("-q", "--quiet", action="store_true", help="say nothing but results")
_common.add_argument("--context", metavar="NAME|FILE", help="which cluster (perseus context ls)")

MAIN_EPILOG = """\
examples:
  perseus run -- uname -a                     run on the best node, as if it were here
  perseus run -- sort -u < big.txt            stdin, stdout and exit code pass through
  perseus run --stdin /logs/a.txt -- wc -l    read stdin from the filestore
  perseus submit --count 100 -- ./work        100 tasks; prints the job's id
  perseus logs -f @last                       follow the latest job
  perseus fs put big.txt /data/big.txt        copy into the filestore
  perseus doctor                              what is wrong, and what mends it

exit codes: the task's own; 2 usage; 124 time limit; 125 a failure of Perseus itself;
126 not executable; 127 not found; 128+N signal N, also of a cancelled task unless it caught
the signal and chose another code than 0; 1 when doctor finds an error.
`perseus COMMAND --help` says more about each.
"""


class Parser(argparse.ArgumentParser):
    """Raises UsageError instead of printing and leaving."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but what nobody knows is an error of the command it was given to."""
        options, extras = self.parse_known_args(args, namespace)
        if extras:
            node: argparse.ArgumentParser = self
            for word in args or ():
                node = children(node).get(word, node)
            node.error(f"unrecognized arguments: {' '.join(extras)}")
        return options

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"{self.prog} --help")


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
    _add_files(commands)
    _add_cluster(commands)
    _add_nodes(commands)
    _add_dev(commands)
    _add_algorithms(commands)
    parser_algo.add(commands, _command, _group)
    _add_here(commands)
    for command in leaves(parser).values():
        parser_meanings.explain(command)
    return parser


def _command(
    commands: Subparsers, name: str, help_text: str, handler: str, examples: str, **options: Any
) -> Parser:
    """A leaf command with the common flags; ``examples`` are lines of its epilog."""
    lines = "\n".join(f"  {line}" for line in examples.strip().splitlines())
    made: Parser = commands.add_parser(
        name,
        help=help_text,
        description=help_text[0].upper() + help_text[1:] + ".",
        epilog=f"examples:\n{lines}",
        parents=[COMMON],
        **options,
    )
    made.set_defaults(handler=handler)
    return made


def _group(commands: Subparsers, name: str, help_text: str, examples: str) -> Subparsers:
    """A command that has commands of its own."""
    lines = "\n".join(f"  {line}" for line in examples.strip().splitlines())
    made = commands.add_parser(
        name,
        help=help_text,
        description=help_text[0].upper() + help_text[1:] + ".",
        epilog=f"examples:\n{lines}",
        parents=[COMMON],
    )
    made.set_defaults(group=made.prog)
    return made.add_subparsers(dest=f"{name}_command", metavar="COMMAND", parser_class=Parser)


def _add_work(commands: Subparsers) -> None:
    run = _command(
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
    submit = _command(
        commands,
        "submit",
        "submit a job and print its id alone",
        "work:submit",
        """
perseus submit -- ./long-work
id=$(perseus submit --count 100 -- ./work); perseus wait $id""",
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
    ps = _command(commands, "ps", "list jobs, newest first", "jobs:ps", "perseus ps\nperseus ps -a")
    ps.add_argument("job", nargs="*", metavar="ID", help="these alone, with their tasks")
    ps.add_argument("-a", "--active", action="store_true", help="only jobs that have not ended")
    ps.add_argument("-n", "--limit", type=int, default=20, help="at most so many (default 20)")
    logs = _command(
        commands,
        "logs",
        "show the output of a job from the first byte",
        "jobs:logs",
        "perseus logs @last\nperseus logs -f --stderr 7k3m\nperseus logs --task 3 7k3m",
    )
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the job has ended")
    logs.add_argument("--stdout", action="store_true", help="stdout alone")
    logs.add_argument("--stderr", action="store_true", help="stderr alone")
    logs.add_argument("--task", type=int, metavar="N", help="one task, counted from 0")
    _job_argument(logs)
    wait = _command(
        commands,
        "wait",
        "wait for a job and exit with its code",
        "jobs:wait",
        "perseus wait @last\nperseus wait --timeout 10m 7k3m",
    )
    wait.add_argument("--timeout", metavar="TIME", help="give up after this long (exit code 124)")
    _job_argument(wait)
    kill = _command(
        commands,
        "kill",
        "send a signal to a job's tasks; TERM and KILL cancel it",
        "jobs:kill",
        "perseus kill 7k3m\nperseus kill -s USR1 @last",
    )
    kill.add_argument("-s", "--signal", default="TERM", help="name or number (default TERM)")
    _job_argument(kill, nargs="+")
    attach = _command(
        commands,
        "attach",
        "follow a running job; ^C goes to it, a second ^C, TERM or a closed terminal leaves it "
        "running",
        "jobs:attach",
        "perseus attach @last",
    )
    _job_argument(attach)
    retry = _command(
        commands,
        "retry",
        "run the tasks of a job that did not finish well once more",
        "jobs:retry",
        "perseus retry 7k3m && perseus attach 7k3m",
    )
    _job_argument(retry)
    why = _command(
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


def _add_files(commands: Subparsers) -> None:
    fs = _group(
        commands,
        "fs",
        "work with the files of the cluster",
        "perseus fs put a.txt /data/a.txt\nperseus fs ls -l /data\nperseus fs tail -f /logs/web",
    )
    put = _command(
        fs,
        "put",
        "copy local files into the filestore; - is stdin",
        "files:put",
        """
perseus fs put a.txt /data/
perseus fs put -r photos /photos
make | perseus fs put - /log""",
    )
    put.add_argument("source", nargs="+", help="local files; - for stdin")
    put.add_argument("target", help="path in the filestore; a folder ends with /")
    put.add_argument("-n", "--no-replace", action="store_true", help="refuse to replace a file")
    put.add_argument("-p", "--parents", action="store_true", help="make the folders above")
    put.add_argument(
        "-r",
        "--recursive",
        action="store_true",
        help="folders with all in them; says what it leaves out, and ends with 1",
    )
    put.add_argument(
        "--replicas", type=int, default=0, metavar="N", help="copies to keep (default 2)"
    )
    get = _command(
        fs,
        "get",
        "copy a file out of the filestore; - is stdout",
        "files:get",
        "perseus fs get /data/a.txt\nperseus fs get /data/a.txt b.txt\nperseus fs get -r /photos .",
    )
    get.add_argument("source", help="path in the filestore")
    get.add_argument("target", nargs="?", help="local file or folder (default: the same name here)")
    get.add_argument("-r", "--recursive", action="store_true", help="a folder with all in it")
    cat = _command(fs, "cat", "write files to stdout", "files:cat", "perseus fs cat /a /b | wc")
    cat.add_argument("path", nargs="+")
    tail = _command(
        fs,
        "tail",
        "show the end of a file",
        "files:tail",
        "perseus fs tail /logs/web\nperseus fs tail -f -n 100 /logs/web",
    )
    tail.add_argument("-f", "--follow", action="store_true", help="go on until it is removed")
    tail.add_argument("-n", "--lines", type=int, default=10, help="so many lines (default 10)")
    tail.add_argument("-c", "--bytes", metavar="SIZE", help="so many bytes instead of lines")
    tail.add_argument("path")
    append = _command(
        fs,
        "append",
        "write stdin, or local files, at the end of a file",
        "files:append",
        "date | perseus fs append /logs/dates",
    )
    append.add_argument("path")
    append.add_argument("source", nargs="*", help="local files (default: stdin)")
    append.add_argument("-p", "--parents", action="store_true", help="make the folders above")
    _add_names(fs)


def _add_names(fs: Subparsers) -> None:
    ls = _command(fs, "ls", "list a folder", "files:ls", "perseus fs ls\nperseus fs ls -l /data")
    ls.add_argument("-l", "--long", action="store_true", help="size, replicas, time")
    ls.add_argument("path", nargs="*", default=["/"])
    stat = _command(fs, "stat", "show all about a path", "files:stat", "perseus fs stat /data/a")
    stat.add_argument("path", nargs="+")
    rm = _command(fs, "rm", "remove files", "files:rm", "perseus fs rm /a\nperseus fs rm -r /old")
    rm.add_argument("-r", "--recursive", action="store_true", help="folders with all in them")
    rm.add_argument(
        "-f",
        "--force",
        action="store_true",
        help="do not mind what is not there; with -r, allow / and /jobs",
    )
    rm.add_argument("path", nargs="+")
    mv = _command(
        fs,
        "mv",
        "rename a file or folder, atomically",
        "files:mv",
        "perseus fs mv /new /data\nperseus fs mv --replace /a.tmp /a",
    )
    mv.add_argument("--replace", action="store_true", help="a file at the target gives way")
    mv.add_argument("source")
    mv.add_argument("target")
    mkdir = _command(fs, "mkdir", "make folders", "files:mkdir", "perseus fs mkdir -p /a/b/c")
    mkdir.add_argument("-p", "--parents", action="store_true", help="also those above")
    mkdir.add_argument("path", nargs="+")
    df = _command(fs, "df", "show room and use", "files:df", "perseus fs df\nperseus fs df /data")
    df.add_argument("path", nargs="?", default="/")


def _add_cluster(commands: Subparsers) -> None:
    init = _command(
        commands,
        "init",
        "make this machine the first node of a new cluster",
        "setup:init",
        "perseus init\nperseus init --data /srv/perseus --listen 192.168.1.10:7700 --name attic",
    )
    _node_flags(init)
    join = _command(
        commands,
        "join",
        "make this machine a node of a cluster",
        "setup:join",
        "perseus join 192.168.1.10:7700 --token perseus1...",
    )
    join.add_argument("address", metavar="HOST:PORT", help="where the master answers")
    join.add_argument("--token", required=True, help="from `perseus token create` on the master")
    _node_flags(join)
    start = _command(
        commands, "start", "start the daemon of a node", "setup:start", "perseus start"
    )
    start.add_argument("--foreground", action="store_true", help="do not return; for systemd")
    start.add_argument("--data", metavar="FOLDER", help="the node's data folder")
    start.add_argument(
        "--advertise", metavar="HOST:PORT", default="", help="from now on others reach it there"
    )
    start.add_argument("--accept-old-state", action="store_true", help="go on with an old backup")
    stop = _command(commands, "stop", "stop the daemon of a node", "setup:stop", "perseus stop")
    stop.add_argument("--data", metavar="FOLDER", help="the node's data folder")
    login = _command(
        commands,
        "login",
        "make this machine a client of a cluster",
        "setup:login",
        "perseus login 192.168.1.10:7700 --token perseus1...",
    )
    login.add_argument("address", metavar="HOST:PORT", help="where the master answers")
    login.add_argument("--token", required=True, help="from `perseus token create --role user`")
    login.add_argument("--name", help="your name in listings (default: user@host)")
    login.add_argument("--as", dest="save_as", metavar="NAME", help="the context's name here")
    _add_tokens(commands)


def _node_flags(parser: Parser) -> None:
    parser.add_argument("--data", metavar="FOLDER", help="where the node keeps everything")
    parser.add_argument(
        "--listen", metavar="HOST:PORT", default="0.0.0.0:7700", help="default 0.0.0.0:7700"
    )
    parser.add_argument("--advertise", metavar="HOST:PORT", default="", help="how others reach it")
    parser.add_argument("--name", help="the node's name (default: the machine's)")
    parser.add_argument(
        "--label", action="append", default=[], metavar="NAME=VALUE", help="give it a label"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SETTING=VALUE",
        help="a setting of the daemon, kept with the node, as lease_s=20",
    )
    parser.add_argument("--no-start", action="store_true", help="only make the data folder")


def _add_tokens(commands: Subparsers) -> None:
    token = _group(
        commands,
        "token",
        "let machines and people in",
        "perseus token create\nperseus token create --role user --ttl 1h",
    )
    create = _command(
        token,
        "create",
        "make a token for one machine or person; it works once",
        "setup:token_create",
        "perseus token create\nperseus token create --role user --ttl 10m",
    )
    create.add_argument(
        "--role", default="node", choices=["node", "user", "viewer", "admin"], help="default node"
    )
    create.add_argument("--ttl", metavar="TIME", help="how long it can be used (default 1h)")
    _command(token, "ls", "list tokens", "setup:token_ls", "perseus token ls")
    revoke = _command(
        token, "revoke", "make tokens useless", "setup:token_revoke", "perseus token revoke 3k9"
    )
    revoke.add_argument("token", nargs="+", metavar="TOKEN_ID")


def _add_nodes(commands: Subparsers) -> None:
    nodes = commands.add_parser(
        "nodes",
        help="list the nodes, or change one",
        description="List the nodes, or change one.",
        epilog="examples:\n  perseus nodes\n  perseus nodes drain attic\n"
        "  perseus nodes label attic gpu=yes",
        parents=[COMMON],
    )
    nodes.set_defaults(handler="nodes:ls")
    more = nodes.add_subparsers(dest="nodes_command", metavar="COMMAND", parser_class=Parser)
    _command(more, "ls", "list the nodes", "nodes:ls", "perseus nodes ls")
    drain = _command(
        more, "drain", "give a node no new tasks", "nodes:drain", "perseus nodes drain attic"
    )
    drain.add_argument("node", nargs="+")
    undrain = _command(
        more, "undrain", "give a node tasks again", "nodes:undrain", "perseus nodes undrain attic"
    )
    undrain.add_argument("node", nargs="+")
    label = _command(
        more,
        "label",
        "set labels of a node; NAME= takes one away",
        "nodes:label",
        "perseus nodes label attic gpu=yes room=",
    )
    label.add_argument("node")
    label.add_argument("label", nargs="+", metavar="NAME=VALUE")
    rm = _command(
        more,
        "rm",
        "take a node out of the cluster for good",
        "nodes:rm",
        "perseus nodes rm attic",
    )
    rm.add_argument("--force", action="store_true", help="even if it alone holds some data")
    rm.add_argument("node", nargs="+")


def _add_dev(commands: Subparsers) -> None:
    dev = _group(
        commands,
        "dev",
        "a cluster of real daemons on this machine, for trying out",
        """
eval "$(perseus dev up --nodes 3 --dir /tmp/lab)"
perseus dev kill node-2
perseus dev down""",
    )
    up = _command(
        dev,
        "up",
        "start a local cluster; prints the export line",
        "dev:up",
        'eval "$(perseus dev up --nodes 3 --dir /tmp/lab)"',
    )
    up.add_argument("--nodes", type=int, default=3, metavar="N", help="default 3")
    up.add_argument(
        "--set", action="append", default=[], metavar="SETTING=VALUE", help="a daemon setting"
    )
    down = _command(dev, "down", "stop all nodes", "dev:down", "perseus dev down --remove")
    down.add_argument("--remove", action="store_true", help="delete their data as well")
    status = _command(dev, "status", "list the local nodes", "dev:status", "perseus dev status")
    made = [up, down, status]
    for name, text in (
        ("kill", "end all processes of a node at once, as pulling the plug does"),
        ("pause", "freeze a node"),
        ("resume", "let a frozen node go on"),
        ("restart", "kill a node and start it again on its data"),
    ):
        one = _command(dev, name, text, f"dev:{name}", f"perseus dev {name} node-2")
        one.add_argument("node", help="node-1, node-2, ...")
        made.append(one)
    for parser in made:
        parser.add_argument(
            "--dir", metavar="FOLDER", help="default: the one in use, or ./perseus-dev"
        )


def _add_algorithms(commands: Subparsers) -> None:
    sim = _command(
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
    sim.add_argument("--nodes", type=int, default=5, metavar="N", help="default 5")
    sim.add_argument("--seeds", type=int, default=100, metavar="N", help="runs; default 100")
    sim.add_argument("--first", type=int, default=0, metavar="SEED", help="the first; default 0")
    sim.add_argument("--time", default="60", metavar="TIME", help="simulated, of each; default 60s")
    sim.add_argument(
        "--faults",
        default="all",
        metavar="WHICH",
        help="none, network, crash, some, steady, all, deadly or minority",
    )
    sim.add_argument("--cluster", action="store_true", help="on all nodes, as an array job")
    sim.add_argument(
        "--processes", type=int, default=0, metavar="N", help="at once; default: one a core"
    )
    sim.add_argument("--no-shrink", action="store_true", help="do not make a failing run smaller")
    every = sim.add_argument_group("all orders of a small configuration, instead of seeds")
    every.add_argument("--explore", action="store_true", help="try every order of events")
    every.add_argument("--depth", type=int, default=30, metavar="N", help="events; default 30")
    every.add_argument("--timeouts", type=int, default=4, metavar="N", help="timers; default 4")
    every.add_argument("--crashes", type=int, default=1, metavar="N", help="default 1")
    every.add_argument(
        "--states", type=int, default=200_000, metavar="N", help="at most; default 200000"
    )
    one = sim.add_argument_group("one run again")
    one.add_argument("--seed", type=int, metavar="SEED", help="run this one and show it")
    one.add_argument("--keep", metavar="N,N", help="of its faults only these, or none")
    one.add_argument("--calm", action="store_true", help="no message is lost, doubled or late")
    one.add_argument("--trace", action="store_true", help="print each event")
    one.add_argument("--diagram", action="store_true", help="draw its end in columns of text")
    one.add_argument("--picture", metavar="FILE.svg", help="draw its end as a picture")


def _add_here(commands: Subparsers) -> None:
    _command(
        commands, "doctor", "what is wrong, and what mends it", "doctor:doctor", "perseus doctor"
    )
    context = _group(
        commands,
        "context",
        "choose the cluster that commands speak to",
        "perseus context ls\nperseus context use lab",
    )
    _command(context, "ls", "list contexts", "context:ls", "perseus context ls")
    use = _command(
        context,
        "use",
        "make a context the one in use",
        "context:use",
        "perseus context use lab\nperseus context use /tmp/lab/context.json",
    )
    use.add_argument("name", metavar="NAME|FILE")
    completion = _command(
        commands,
        "completion",
        "print a shell's completion script; it also completes nodes, jobs, paths and contexts",
        "completion:completion",
        'eval "$(perseus completion bash)"\nperseus completion fish | source',
    )
    completion.add_argument("shell", choices=["bash", "zsh", "fish"])
    _command(commands, "version", "show versions", "here:version", "perseus version")
    help_command = _command(
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


def children(parser: argparse.ArgumentParser) -> "dict[str, argparse.ArgumentParser]":
    """The commands directly below a parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}
