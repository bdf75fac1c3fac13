"""The commands that make nodes and clusters and let others in; a part of ``cli.parser``."""

from perseus.cli.parser_base import COMMON, Parser, Subparsers, command, group, whole


def add(commands: Subparsers) -> None:
    """Adds ``init``, ``join``, ``start``, ``stop``, ``login``, ``token``, ``nodes``, ``dev``."""
    _add_cluster(commands)
    _add_tokens(commands)
    _add_nodes(commands)
    _add_dev(commands)


def _add_cluster(commands: Subparsers) -> None:
    init = command(
        commands,
        "init",
        "make this machine the first node of a new cluster",
        "setup:init",
        "perseus init\nperseus init --data /srv/perseus --listen 192.168.1.10:7700 --name attic",
    )
    _node_flags(init)
    join = command(
        commands,
        "join",
        "make this machine a node of a cluster",
        "setup:join",
        "perseus join 192.168.1.10:7700 --token perseus1...",
    )
    join.add_argument("address", metavar="HOST:PORT", help="where the master answers")
    join.add_argument("--token", required=True, help="from `perseus token create` on the master")
    _node_flags(join)
    start = command(commands, "start", "start the daemon of a node", "setup:start", "perseus start")
    start.add_argument("--foreground", action="store_true", help="do not return; for systemd")
    start.add_argument("--data", metavar="FOLDER", help="the node's data folder")
    start.add_argument(
        "--advertise", metavar="HOST:PORT", default="", help="from now on others reach it there"
    )
    start.add_argument("--accept-old-state", action="store_true", help="go on with an old backup")
    stop = command(commands, "stop", "stop the daemon of a node", "setup:stop", "perseus stop")
    stop.add_argument("--data", metavar="FOLDER", help="the node's data folder")
    login = command(
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


def _node_flags(parser: Parser) -> None:
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        help="where the node keeps everything (default: /var/lib/perseus of root, "
        "else ~/.local/share/perseus/node)",
    )
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
    token = group(
        commands,
        "token",
        "let machines and people in",
        "perseus token create\nperseus token create --role user --ttl 1h",
    )
    create = command(
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
    command(token, "ls", "list tokens", "setup:token_ls", "perseus token ls")
    revoke = command(
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
    command(more, "ls", "list the nodes", "nodes:ls", "perseus nodes ls")
    drain = command(
        more, "drain", "give a node no new tasks", "nodes:drain", "perseus nodes drain attic"
    )
    drain.add_argument("node", nargs="+")
    undrain = command(
        more, "undrain", "give a node tasks again", "nodes:undrain", "perseus nodes undrain attic"
    )
    undrain.add_argument("node", nargs="+")
    label = command(
        more,
        "label",
        "set labels of a node; NAME= takes one away",
        "nodes:label",
        "perseus nodes label attic gpu=yes room=",
    )
    label.add_argument("node")
    label.add_argument("label", nargs="+", metavar="NAME=VALUE")
    rm = command(
        more,
        "rm",
        "take a node out of the cluster for good",
        "nodes:rm",
        "perseus nodes rm attic",
    )
    rm.add_argument("--force", action="store_true", help="even if it alone holds some data")
    rm.add_argument("node", nargs="+")


def _add_dev(commands: Subparsers) -> None:
    dev = group(
        commands,
        "dev",
        "a cluster of real daemons on this machine, for trying out",
        """
eval "$(perseus dev up --nodes 3 --dir /tmp/lab)"
perseus dev kill node-2
perseus dev down""",
    )
    up = command(
        dev,
        "up",
        "start a local cluster; prints the export line",
        "dev:up",
        'eval "$(perseus dev up --nodes 3 --dir /tmp/lab)"',
    )
    up.add_argument("--nodes", type=whole(), default=3, metavar="N", help="default 3")
    up.add_argument(
        "--set", action="append", default=[], metavar="SETTING=VALUE", help="a daemon setting"
    )
    down = command(dev, "down", "stop all nodes", "dev:down", "perseus dev down --remove")
    down.add_argument("--remove", action="store_true", help="delete their data as well")
    status = command(dev, "status", "list the local nodes", "dev:status", "perseus dev status")
    made = [up, down, status]
    for name, text in (
        ("kill", "end all processes of a node at once, as pulling the plug does"),
        ("pause", "freeze a node"),
        ("resume", "let a frozen node go on"),
        ("restart", "kill a node and start it again on its data"),
    ):
        one = command(dev, name, text, f"dev:{name}", f"perseus dev {name} node-2")
        one.add_argument("node", help="node-1, node-2, ...")
        made.append(one)
    for parser in made:
        parser.add_argument(
            "--dir", metavar="FOLDER", help="default: the one in use, or ./perseus-dev"
        )
