"""Making a node: the first one of a new cluster, or one more by a token.

``initialise`` and ``join`` only fill a data folder; ``lifecycle.start`` runs it.
Both refuse a folder that is a node's already, and leave nothing behind when
they fail, so they can be tried again.
"""

import contextlib
import dataclasses
import errno
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import perseus
from perseus import settings as settings_module
from perseus.daemon import config
from perseus.daemon.config import FolderLock, NodeConfig, Paths
from perseus.daemon.own_address import own_host
from perseus.errors import (
    ConflictError,
    FullError,
    InvalidError,
    PerseusError,
    RefusedError,
    UnavailableError,
)
from perseus.ids import ALPHABET, check_node_name, encode
from perseus.runtime.real import RealDisk, RealRandom
from perseus.shellwords import as_file

NODE_ID_LENGTH = 8
CLUSTER_ID_LENGTH = 10
# Stands in a data folder while a node is made in it.
UNFINISHED = "unfinished"
PORT_MAXIMUM = 65535
UNPRIVILEGED_PORT = 7700
# For the master's word on whether a node is still of its cluster.
ASK_TIMEOUT_S = 10.0


def initialise(
    data: Path,
    listen: str,
    name: str,
    *,
    settings: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
    advertise: str = "",
) -> NodeConfig:
    """Makes ``data`` the first node of a new cluster, its master.

    ``listen`` is "HOST:PORT"; port 0 takes a free one, for good. Writes the
    owner's context, with an admin certificate, to ``data/context.json``.
    """
    from perseus.identity import roles
    from perseus.identity.authority import Authority
    from perseus.identity.subject import Subject
    from perseus.store.sqlite import SqliteStore

    check_node_name(name)
    settings_module.from_mappings(settings or {})
    # Before its ports: a node that is there already may be what holds them.
    _check_new(data.resolve())
    listen, advertise, chunk_listen = _addresses(listen, advertise)
    with _new_folder(data) as paths:
        cluster_id = "p" + new_id(CLUSTER_ID_LENGTH - 1)
        authority = Authority.create(cluster_id, time.time())
        authority.save(paths.identity)
        node_id = new_id(NODE_ID_LENGTH)
        node = Subject("node", name, roles.NODE, node_id, is_master=True)
        lifetimes = settings_module.from_mappings(settings or {})
        _own_identity(authority, node, paths.identity, lifetimes.certificate_s)
        made = NodeConfig(
            cluster_id=cluster_id,
            node_id=node_id,
            node_name=name,
            listen=listen,
            advertise=advertise,
            chunk_listen=chunk_listen,
            is_master=True,
            master_address=advertise,
            settings=dict(settings or {}),
            labels=dict(labels or {}),
        )
        _write_owner_context(authority, paths, made, lifetimes.user_certificate_s)
        # Here alone it is made: a master that finds none later has lost it.
        SqliteStore(paths.state, cluster_id, create=True).close()
        config.save(data, made)
        return made


def _own_identity(authority: Any, subject: Any, folder: Path, lifetime_s: float) -> None:
    from perseus.identity.files import Identity, new_key_and_request

    key_pem, request_pem = new_key_and_request(subject.name)
    certificate_pem = authority.sign(request_pem, subject, lifetime_s, time.time())
    Identity.of(folder, authority.ca_pem, certificate_pem, key_pem).save()


def _write_owner_context(authority: Any, paths: Paths, made: NodeConfig, lifetime_s: float) -> None:
    """The context of whoever made the cluster: an administrator."""
    from perseus.identity import roles
    from perseus.identity.files import new_key_and_request
    from perseus.identity.subject import Subject

    owner = os.environ.get("USER") or os.environ.get("LOGNAME") or "owner"
    key_pem, request_pem = new_key_and_request(owner)
    subject = Subject("user", owner[:64], roles.ADMIN)
    certificate_pem = authority.sign(request_pem, subject, lifetime_s, time.time())
    context = {
        "name": made.node_name,
        "cluster_id": made.cluster_id,
        "address": made.advertise,
        "socket": str(paths.socket),
        "ca_pem": authority.ca_pem.decode(),
        "certificate_pem": certificate_pem.decode(),
        "key_pem": key_pem.decode(),
    }
    text = json.dumps(context, indent=2) + "\n"
    RealDisk().write(str(paths.context), text.encode(), 0o600)


def join(
    master: str,
    token: str,
    data: Path,
    listen: str,
    name: str,
    *,
    settings: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
    advertise: str = "",
) -> NodeConfig:
    """Makes ``data`` a node of the cluster whose master answers at ``master``.

    The token's fingerprint is checked against the cluster's CA before anything
    secret is sent. Raises RefusedError (token, CA, clock), AlreadyExistsError
    (the name), UnavailableError (nobody answers).
    """
    from perseus.identity.files import new_key_and_request
    from perseus.rpc.tls_client import bootstrap

    check_node_name(name)
    settings_module.from_mappings(settings or {})
    config.split_address(master)
    _check_not_removed(master, data)
    _check_new(data.resolve())
    listen, advertise, chunk_listen = _addresses(listen, advertise, master)
    with contextlib.ExitStack() as stack:
        paths = stack.enter_context(_new_folder(data))
        connection, parts = bootstrap(master, token)
        stack.enter_context(connection)
        key_pem, request_pem = new_key_and_request(name)
        request = _join_request(parts.secret, name, request_pem, labels or {})
        answer = connection.call("Cluster.Join", request)
        _save_identity(paths.identity, answer, key_pem)
        made = NodeConfig(
            cluster_id=answer["cluster_id"],
            node_id=answer["node_id"],
            node_name=answer["node_name"],
            listen=listen,
            advertise=advertise,
            chunk_listen=chunk_listen,
            is_master=False,
            master_address=master,
            settings=dict(settings or {}),
            labels=dict(labels or {}),
        )
        config.save(data, made)
        return made


def _check_not_removed(master: str, data: Path) -> None:
    """Raises ConflictError, with the way back, when ``data`` is of a node that its cluster
    has taken out. What the folder holds was given up by the cluster, but may be all that is
    left of a file: it is put aside by who knows, never deleted here."""
    if not config.exists(data):
        return
    about = config.load(data)
    refusal = _refusal(master, Paths(data).identity)
    if not about.is_master and refusal is not None:
        quoted = as_file(data)
        raise ConflictError(
            f"{data} is node {about.node_name} of cluster {about.cluster_id}, which does not "
            f"take it any more: {refusal.message}",
            hint=f"keep what it holds aside, and join as a new node: perseus stop --data {quoted}; "
            f"mv {quoted} {as_file(f'{data}.old')}; perseus join {master} --token T "
            f"--name {about.node_name} --data {quoted}",
        )


def _refusal(master: str, identity: Path) -> RefusedError | None:
    """What the master of the identity's cluster at ``master`` has against it; None for nothing,
    and where that master is not heard of."""
    from perseus.rpc.tls_client import TlsConnection

    try:
        with TlsConnection.of(master, identity, "master") as connection:
            # Before: it may be another cluster's, or a clock may be off.
            connection.peer_certificate()
            try:
                connection.call("Cluster.GetInfo", {}, timeout_s=ASK_TIMEOUT_S)
            except RefusedError as refusal:
                return refusal
    except PerseusError:
        pass
    return None


def _join_request(
    secret: str, name: str, request_pem: bytes, labels: dict[str, str]
) -> dict[str, Any]:
    return {
        "token": secret,
        "name": name,
        "certificate_request_pem": request_pem.decode(),
        "protocol": settings_module.PROTOCOL_MAXIMUM,
        "version": perseus.__version__,
        "labels": labels,
        "time_s": time.time(),
    }


def _save_identity(folder: Path, answer: dict[str, Any], key_pem: bytes) -> None:
    from perseus.identity.files import Identity

    certificate_pem, ca_pem = answer["certificate_pem"], answer["ca_pem"]
    Identity.of(folder, ca_pem.encode(), certificate_pem.encode(), key_pem).save()


def has_expired(data: Path) -> bool:
    """Whether ``data`` is of a node, not the master, whose certificate is over."""
    from perseus.identity.files import Identity

    if not config.exists(data) or config.load(data).is_master:
        return False
    return time.time() >= Identity.load(Paths(data).identity).expires_at_s


def rejoin(master: str, token: str, data: Path) -> NodeConfig:
    """Gives the node of ``data``, whose certificate is over, a new one. It stays the node
    that it was, with its replicas. Raises as ``join``, and ConflictError while it runs."""
    from perseus.identity.files import Identity, new_key_and_request
    from perseus.identity.subject import fingerprint
    from perseus.rpc.tls_client import bootstrap

    about = config.load(data)
    paths = Paths(data)
    config.split_address(master)
    with contextlib.ExitStack() as stack:
        stack.callback(FolderLock(data).release)
        connection, parts = bootstrap(master, token)
        stack.enter_context(connection)
        if parts.ca_fingerprint != fingerprint(Identity.load(paths.identity).ca_pem):
            raise ConflictError(
                f"{data} is node {about.node_name} of cluster {about.cluster_id}, "
                "the token is of another cluster",
                hint="choose another folder with --data",
            )
        key_pem, request_pem = new_key_and_request(about.node_name)
        request = _join_request(parts.secret, about.node_name, request_pem, about.labels)
        answer = connection.call("Cluster.Join", {**request, "node_id": about.node_id})
        _save_identity(paths.identity, answer, key_pem)
    made = dataclasses.replace(about, master_address=master)
    config.save(data, made)
    return made


def create_token(data: Path, role: str = "node") -> tuple[str, str]:
    """A new token from the running master of ``data``, and the address to join at."""
    answer = _local(data, "CreateToken", {"role": f"ROLE_{role.upper()}"})
    return answer["token"], answer["master_address"]


def count_alive(data: Path) -> int:
    """How many nodes the running master of ``data`` takes for alive, draining ones too."""
    nodes = _local(data, "ListNodes", {}).get("nodes", [])
    states = ("NODE_STATE_ALIVE", "NODE_STATE_DRAINING")
    return sum(1 for node in nodes if node.get("state") in states)


def _local(data: Path, method: str, request: dict[str, Any]) -> dict[str, Any]:
    from perseus.rpc.http_client import UnixConnection

    with UnixConnection(str(Paths(data).socket)) as connection:
        return connection.call(f"Cluster.{method}", request)


def new_id(length: int) -> str:
    """A random id; the first character is a letter, so that it is never taken for a number."""
    random = RealRandom()
    first = ALPHABET[10 + random.bits(30) % (len(ALPHABET) - 10)]
    return first + encode(random.bits(5 * (length - 1)), length - 1)


@contextlib.contextmanager
def _new_folder(data: Path) -> Iterator[Paths]:
    """The folders of a new node; taken away again when the block fails.

    A mark stands in the folder meanwhile: what was left by a making that was
    killed is known by it, and cleared by the next.
    """
    data = data.resolve()
    _check_new(data)
    existed = data.exists()
    paths = Paths(data)
    mark = data / UNFINISHED
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark.touch(0o600)
        lock = FolderLock(data)
    except OSError as error:
        raise InvalidError(
            f"cannot make a node in {data}: {error.strerror}",
            hint="choose another folder with --data",
        ) from None
    except ConflictError:
        raise ConflictError(
            f"another command is making a node in {data} just now",
            hint="wait for it to end, or choose another folder with --data",
        ) from None
    try:
        # The other command may have come to its end before the lock was ours.
        _check_new(data)
        _clear(data, keep=(UNFINISHED, FolderLock.NAME))
        try:
            with _full_disk_told(data):
                paths.make()
                yield paths
        except BaseException:
            _clear(data)
            paths.remove_run()
            if not existed:
                data.rmdir()
            raise
        mark.unlink(missing_ok=True)
    finally:
        lock.release()


@contextlib.contextmanager
def _full_disk_told(data: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise FullError(
            f"cannot make a node in {data}: {error.strerror}",
            hint=f"make room (df -h {as_file(data.parent)}), or choose another folder with --data",
        ) from None


def _check_new(data: Path) -> None:
    """Raises ConflictError unless ``data`` is free to become a node's."""
    if config.exists(data):
        about = config.load(data)
        raise ConflictError(
            f"{data} is node {about.node_name} of cluster {about.cluster_id} already",
            hint=f"start it with `perseus start --data {as_file(data)}`, or choose another --data",
        )
    if data.exists() and not data.is_dir():
        raise ConflictError(f"{data} is not a folder", hint="choose another with --data")
    if data.exists() and any(data.iterdir()) and not (data / UNFINISHED).exists():
        raise ConflictError(f"{data} is not empty", hint="choose another folder with --data")


def _clear(data: Path, keep: tuple[str, ...] = ()) -> None:
    for entry in list(data.iterdir()):
        if entry.name not in keep:
            shutil.rmtree(entry) if _is_folder(entry) else entry.unlink()


def _is_folder(entry: Path) -> bool:
    return entry.is_dir() and not entry.is_symlink()


def _addresses(listen: str, advertise: str, master: str = "") -> tuple[str, str, str]:
    """Where the agent listens, how others reach it, where the chunkserver listens.

    The chunkserver takes the port after the agent's, so that a firewall needs
    one rule; with port 0 both are free ports, chosen now and kept.
    """
    host, port = config.split_address(listen)
    if port == 0:
        port, chunk_port = _free_ports(host, 2)
    elif port == PORT_MAXIMUM:
        raise InvalidError(
            f"port {port} leaves none after it for the chunkserver",
            hint=f"choose another: --listen {config.join_address(host, port - 1)}",
        )
    else:
        chunk_port = port + 1
        for number in (port, chunk_port):
            _check_port_free(host, number)
    listen = config.join_address(host, port)
    if not advertise:
        towards = config.split_address(master)[0] if master else ""
        advertise = config.join_address(own_host(host, port, towards), port)
    config.split_address(advertise)
    return listen, advertise, config.join_address(host, chunk_port)


def _free_ports(host: str, count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(_bind(host, 0)) for _ in range(count)]
        return [int(bound.getsockname()[1]) for bound in sockets]


def _check_port_free(host: str, port: int) -> None:
    _bind(host, port).close()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except (OSError, UnicodeError) as error:
        made.close()
        # A host's name of 64 letters or more is no OSError.
        said = error.strerror if isinstance(error, OSError) else "not the name of a host"
        raise UnavailableError(
            f"cannot listen on {config.join_address(host, port)}: {said}",
            hint=_hint_of_bind(host, port, error),
        ) from None
    return made


def _hint_of_bind(host: str, port: int, error: Exception) -> str:
    """What to listen on instead: another port only where it is the port that cannot be had."""
    number = error.errno if isinstance(error, OSError) else None
    if port and number == errno.EADDRINUSE:
        return f"choose another port: --listen {config.join_address(host, port + 10)}"
    if port and number == errno.EACCES:
        other = config.join_address(host, UNPRIVILEGED_PORT)
        return f"ports as low as this are for root alone: --listen {other}"
    everywhere = config.join_address("0.0.0.0", port or UNPRIVILEGED_PORT)
    return f"choose an address of this machine (`ip address`), or all: --listen {everywhere}"
