"""The context: which cluster a client speaks to, and as whom.

A context is a JSON file, readable by its owner alone (with a key in it that others may read,
it is refused, as ssh refuses such a key)::

    {"name": "lab", "cluster_id": "…", "address": "host:port",
     "socket": "/path/of/perseusd.sock",
     "ca_pem": "…", "certificate_pem": "…", "key_pem": "…"}

``socket`` is set where the daemon is on this machine; the certificate and key
are the user's, and let bulk bytes go straight to the chunkservers. Which file
counts is decided by ``find``:

1. ``PERSEUS_CONTEXT=FILE``;
2. ``$XDG_CONFIG_HOME/perseus/context``, a link to ``contexts/NAME.json`` beside it;
3. a node of this machine: ``/var/lib/perseus``, then ``$XDG_DATA_HOME/perseus/node``;
4. the embedded cluster, once it was started: ``$XDG_DATA_HOME/perseus/embedded``.

Imports next to nothing: the command line's fast path reads contexts.
"""

import os

from perseus.errors import InvalidError, NotFoundError, RefusedError
from perseus.rpc.light_json import loads
from perseus.shellwords import as_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

FIELDS = ("name", "cluster_id", "address", "socket", "ca_pem", "certificate_pem", "key_pem")
SYSTEM_DATA = "/var/lib/perseus"
CONTEXT_MAXIMUM_BYTES = 1 << 20


class Context:
    """A cluster and an identity. Empty strings where something is not known."""

    __slots__ = (*FIELDS, "path")

    def __init__(
        self,
        name: str = "",
        cluster_id: str = "",
        address: str = "",
        socket: str = "",
        ca_pem: str = "",
        certificate_pem: str = "",
        key_pem: str = "",
        path: str = "",
    ) -> None:
        self.name = name
        self.cluster_id = cluster_id
        # The master's "host:port"; empty when only the socket is known.
        self.address = address
        # The daemon's Unix socket on this machine; empty when there is none.
        self.socket = socket
        self.ca_pem = ca_pem
        self.certificate_pem = certificate_pem
        self.key_pem = key_pem
        # The file it was read from.
        self.path = path

    @property
    def has_certificate(self) -> bool:
        """Whether it can speak TLS: to a far daemon, and to chunkservers."""
        return bool(self.ca_pem and self.certificate_pem and self.key_pem)

    def as_dict(self) -> "dict[str, str]":
        """What the file holds."""
        return {field: getattr(self, field) for field in FIELDS}

    def __repr__(self) -> str:
        return f"Context(name={self.name!r}, address={self.address!r}, socket={self.socket!r})"


def load(path: str) -> Context:
    """The context in a file, to be used; raises NotFoundError, InvalidError or RefusedError."""
    context = read(path)
    _check_private(context)
    return context


def _check_private(context: Context) -> None:
    """Raises RefusedError when this user's key lies open to others. What another user owns
    (a secret that was mounted here) is not this user's to close."""
    about = os.stat(context.path)
    mode = about.st_mode & 0o777
    if context.key_pem and mode & 0o077 and about.st_uid == os.geteuid():
        raise RefusedError(
            f"others can read the context file {context.path} (mode {mode:o}), "
            "which holds a private key",
            hint=f"chmod 600 {as_file(context.path)}",
        )


def read(path: str) -> Context:
    """What a context file says, to be shown or replaced; raises NotFoundError or InvalidError."""
    try:
        text = _read(path)
    except FileNotFoundError:
        raise NotFoundError(
            f"the context file {path} does not exist",
            hint=_hint_of_missing(path),
        ) from None
    except OSError as error:
        raise InvalidError(
            f"the context file {path} cannot be read: {error.strerror}",
            hint=f"ls -l {as_file(path)}",
        ) from None
    try:
        values = loads(text)
        known = {field: str(values.get(field) or "") for field in FIELDS}
    except (ValueError, AttributeError):
        raise InvalidError(
            f"{path} is not a context (a JSON object)", hint=_hint_of_broken(path)
        ) from None
    if not known["socket"] and not known["address"]:
        raise InvalidError(
            f"the context {path} names neither a socket nor an address", hint=_hint_of_broken(path)
        )
    return Context(**known, path=path)


def _hint_of_broken(path: str) -> str:
    """A context can be made anew, and another can be taken meanwhile. What lies elsewhere than
    contexts do is somebody's file, named by mistake."""
    if not path.startswith(config_folder(os.environ) + "/contexts/"):
        return "perseus context ls; another is made with: perseus login HOST:PORT --token T"
    anew = f"rm {as_file(path)}; perseus login HOST:PORT --token T"
    return f"make it anew: {anew}; others: perseus context ls"


def _hint_of_missing(path: str) -> str:
    """What to do; that PERSEUS_CONTEXT may go is said only where it named the file."""
    named = os.environ.get("PERSEUS_CONTEXT")
    is_of_variable = bool(named) and path in (named, named_path(str(named), os.environ))
    return "perseus context ls" + ("    (or unset PERSEUS_CONTEXT)" if is_of_variable else "")


def _read(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, CONTEXT_MAXIMUM_BYTES).decode("utf-8", "replace")
    finally:
        os.close(descriptor)


def find(environment: "Mapping[str, str] | None" = None) -> Context | None:
    """The context that counts here, or None when no cluster is known on this machine.

    Raises NotFoundError, InvalidError or RefusedError when one is named and cannot be used.
    """
    environment = os.environ if environment is None else environment
    named = environment.get("PERSEUS_CONTEXT")
    if named:
        return load(named if "/" in named or exists(named) else named_path(named, environment))
    current = current_path(environment)
    if _is_link(current) or exists(current):
        return load(current)
    for data in node_folders(environment):
        context = of_node(data)
        if context is not None:
            return context
    embedded = embedded_path(environment)
    return load(embedded) if exists(embedded) else None


def of_node(data: str) -> Context | None:
    """The context of the node whose data folder is ``data``, or None when there is none."""
    if not _readable(data + "/cluster.json"):
        return None
    if _readable(data + "/context.json"):
        return load(data + "/context.json")
    socket = data + "/run/perseusd.sock"
    if not exists(socket):
        return None
    path = data + "/cluster.json"
    try:
        about = loads(_read(path))
        name, cluster_id = str(about.get("node_name", "")), str(about.get("cluster_id", ""))
        address = str(about.get("master_address", ""))
    except (OSError, ValueError, AttributeError) as error:
        raise InvalidError(
            f"{path}, which says what the node of this machine is, is damaged: {error}",
            hint=f"see to it: cat {as_file(path)}; to speak to another cluster: perseus context ls",
        ) from None
    return Context(name, cluster_id, address, socket, path=path)


def is_embedded(context: Context, environment: "Mapping[str, str] | None" = None) -> bool:
    """Whether ``context`` is the embedded cluster's, which may be started at will."""
    return context.path == embedded_path(os.environ if environment is None else environment)


def config_folder(environment: "Mapping[str, str]") -> str:
    """``$XDG_CONFIG_HOME/perseus``."""
    base = environment.get("XDG_CONFIG_HOME") or _home(environment) + "/.config"
    return base + "/perseus"


def data_base(environment: "Mapping[str, str]") -> str:
    """``$XDG_DATA_HOME/perseus``, above the data folders of this user's nodes."""
    base = environment.get("XDG_DATA_HOME") or _home(environment) + "/.local/share"
    return base + "/perseus"


def current_path(environment: "Mapping[str, str]") -> str:
    """The link to the context in use."""
    return config_folder(environment) + "/context"


def named_path(name: str, environment: "Mapping[str, str]") -> str:
    """The file of the context called ``name``."""
    return f"{config_folder(environment)}/contexts/{name}.json"


def embedded_path(environment: "Mapping[str, str]") -> str:
    """The context file of the embedded cluster."""
    return data_base(environment) + "/embedded/context.json"


def node_folders(environment: "Mapping[str, str]") -> "list[str]":
    """Where a node of this machine keeps its data, the first one first."""
    return [SYSTEM_DATA, data_base(environment) + "/node"]


def exists(path: str) -> bool:
    """Whether ``path`` is there."""
    try:
        os.stat(path)
    except (OSError, ValueError):
        return False
    return True


def _is_link(path: str) -> bool:
    try:
        return os.lstat(path).st_mode & 0o170000 == 0o120000
    except OSError:
        return False


def _readable(path: str) -> bool:
    return os.access(path, os.R_OK)


def _home(environment: "Mapping[str, str]") -> str:
    home = environment.get("HOME")
    if home:
        return home
    import pwd

    return pwd.getpwuid(os.getuid()).pw_dir
