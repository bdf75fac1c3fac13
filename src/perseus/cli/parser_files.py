"""The commands of ``perseus fs``; a part of ``cli.parser``."""

from perseus.cli.parser_base import Subparsers, command, group, whole


def add(commands: Subparsers) -> None:
    """Adds the group to the tree."""
    fs = group(
        commands,
        "fs",
        "work with the files of the cluster",
        "perseus fs put a.txt /data/a.txt\nperseus fs ls -l /data\nperseus fs tail -f /logs/web",
    )
    put = command(
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
        "--replicas", type=whole(1), default=0, metavar="N", help="copies to keep (default 2)"
    )
    get = command(
        fs,
        "get",
        "copy a file out of the filestore; - is stdout",
        "files:get",
        "perseus fs get /data/a.txt\nperseus fs get /data/a.txt b.txt\nperseus fs get -r /photos .",
    )
    get.add_argument("source", help="path in the filestore")
    get.add_argument("target", nargs="?", help="local file or folder (default: the same name here)")
    get.add_argument("-r", "--recursive", action="store_true", help="a folder with all in it")
    cat = command(fs, "cat", "write files to stdout", "files:cat", "perseus fs cat /a /b | wc")
    cat.add_argument("path", nargs="+")
    tail = command(
        fs,
        "tail",
        "show the end of a file",
        "files:tail",
        "perseus fs tail /logs/web\nperseus fs tail -f -n 100 /logs/web",
    )
    tail.add_argument("-f", "--follow", action="store_true", help="go on until it is removed")
    tail.add_argument("-n", "--lines", type=whole(), default=10, help="so many lines (default 10)")
    tail.add_argument("-c", "--bytes", metavar="SIZE", help="so many bytes instead of lines")
    tail.add_argument("path")
    append = command(
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
    ls = command(fs, "ls", "list a folder", "files:ls", "perseus fs ls\nperseus fs ls -l /data")
    ls.add_argument("-l", "--long", action="store_true", help="size, replicas, time")
    ls.add_argument("path", nargs="*", default=["/"])
    stat = command(fs, "stat", "show all about a path", "files:stat", "perseus fs stat /data/a")
    stat.add_argument("path", nargs="+")
    rm = command(fs, "rm", "remove files", "files:rm", "perseus fs rm /a\nperseus fs rm -r /old")
    rm.add_argument("-r", "--recursive", action="store_true", help="folders with all in them")
    rm.add_argument(
        "-f",
        "--force",
        action="store_true",
        help="do not mind what is not there; with -r, allow / and /jobs",
    )
    rm.add_argument("path", nargs="+")
    mv = command(
        fs,
        "mv",
        "rename a file or folder, atomically",
        "files:mv",
        "perseus fs mv /new /data\nperseus fs mv --replace /a.tmp /a",
    )
    mv.add_argument("--replace", action="store_true", help="a file at the target gives way")
    mv.add_argument("source")
    mv.add_argument("target")
    mkdir = command(fs, "mkdir", "make folders", "files:mkdir", "perseus fs mkdir -p /a/b/c")
    mkdir.add_argument("-p", "--parents", action="store_true", help="also those above")
    mkdir.add_argument("path", nargs="+")
    df = command(fs, "df", "show room and use", "files:df", "perseus fs df\nperseus fs df /data")
    df.add_argument("path", nargs="?", default="/")
