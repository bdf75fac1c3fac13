"""``init``, ``join``, ``start``, ``stop``, ``login`` and tokens."""

import getpass
import math
import os
import socket
import time
from pathlib import Path
from typing import Any

from perseus.cli import runspec, units
from perseus.cli.commands.nodes import parse_labels
from perseus.cli.fast import load_site
from perseus.cli.main import Invocation
from perseus.client import context as contexts
from perseus.client.context import Context, exists
from perseus.client.store import check_place, install
from perseus.errors import NotFoundError, PerseusError, RefusedError, UnavailableError
from perseus.settings import from_mappings
from perseus.shellwords import as_file


def init(invocation: Invocation) -> int:
    """The first node of a new cluster."""
    load_site()
    from perseus.daemon import config, embedded, lifecycle, setup

    options = invocation.options
    units.checked(config.split_address, options.listen)
    data = _data_folder(options.data)
    made = units.checked(
        setup.initialise,
        data,
        options.listen,
        options.name or embedded.node_name(),
        settings=_settings(invocation),
        labels=parse_labels(options.label),
        advertise=options.advertise,
    )
    _keep(invocation, contexts.load(str(config.Paths(data).context)))
    if options.no_start:
        invocation.console.say(f"made; start it with: perseus start --data {as_file(data)}")
        return _tell_made(invocation, made, data, None)
    lifecycle.start(data)
    token, address = setup.create_token(data)
    return _tell_made(invocation, made, data, f"perseus join {address} --token {token}")


def _tell_made(invocation: Invocation, made: Any, data: Path, command: str | None) -> int:
    console = invocation.console
    if console.as_json:
        console.json(
            {
                "cluster_id": made.cluster_id,
                "node_name": made.node_name,
                "address": made.advertise,
                "data": str(data),
                "join_command": command or "",
            }
        )
        return 0
    console.say(f"node {made.node_name} of cluster {made.cluster_id}, at {made.advertise}")
    if command is not None:
        console.say(_who_can_join(made.advertise))
        console.line(command)
        console.say("for the next: perseus token create")
    return 0


def _who_can_join(address: str) -> str:
    from perseus.daemon import config, own_address

    host, _ = config.split_address(address)
    if not own_address.is_loopback(host):
        return "on each other machine, within the hour (one token for each machine):"
    return (
        f"no other machine reaches {host}; for those make the cluster with --listen 0.0.0.0:7700; "
        "a second node here, within the hour:"
    )


def join(invocation: Invocation) -> int:
    """One more node of a cluster."""
    load_site()
    from perseus.daemon import config, embedded, lifecycle, setup

    options = invocation.options
    units.checked(config.split_address, options.listen)
    data = _data_folder(options.data)
    if setup.has_expired(data):
        made = setup.rejoin(options.address, options.token, data)
    else:
        made = units.checked(
            setup.join,
            options.address,
            options.token,
            data,
            options.listen,
            options.name or embedded.node_name(),
            settings=_settings(invocation),
            labels=parse_labels(options.label),
            advertise=options.advertise,
        )
    _keep(invocation, _node_context(made, data))
    if not options.no_start:
        lifecycle.start(data)
    return _tell_made(invocation, made, data, None)


def _keep(invocation: Invocation, context: Context) -> None:
    """Lets commands on this machine find the node, wherever its data lies. It is a node also
    where that cannot be written down."""
    try:
        install(context, os.environ)
    except UnavailableError as error:
        of_file = f"; or for now: export PERSEUS_CONTEXT={context.path}" if context.path else ""
        invocation.console.warn(f"{error.message}\n  {error.hint}{of_file}")


def _node_context(made: Any, data: Path) -> Context:
    """The way to a node by its socket, with no certificate."""
    from perseus.daemon import config

    return Context(
        name=made.node_name,
        cluster_id=made.cluster_id,
        address=made.master_address,
        socket=str(config.Paths(data).socket),
    )


def start(invocation: Invocation) -> int:
    """Starts the daemon of a node."""
    load_site()
    from perseus.daemon import lifecycle

    data = _existing_data(invocation.options.data)
    if invocation.options.advertise:
        lifecycle.advertise(data, invocation.options.advertise)
    if invocation.options.foreground:
        command = lifecycle.command(data, invocation.options.accept_old_state)
        if invocation.console.as_json:
            # The daemon takes our place, and with it this number.
            invocation.console.json({"data": str(data), "pid": os.getpid()})
        os.execve(command[0], command, lifecycle.environment())
    pid = lifecycle.start(data, accept_old_state=invocation.options.accept_old_state)
    try:
        lifecycle.hear_master(data)
    except RefusedError as error:
        text = f"the daemon of {data} runs (process {pid}), but {error.message}"
        raise RefusedError(text, hint=error.hint) from None
    except PerseusError as error:
        # It goes on dialling; a node may well be up before its master.
        invocation.console.warn(f"the cluster is not heard of yet: {error.message}")
    if invocation.console.as_json:
        invocation.console.json({"data": str(data), "pid": pid})
    else:
        invocation.console.say(f"the daemon of {data} runs (process {pid})")
    return 0


def stop(invocation: Invocation) -> int:
    """Stops the daemon of a node."""
    load_site()
    from perseus.daemon import lifecycle

    data = _existing_data(invocation.options.data)
    ran = lifecycle.stop(data)
    if invocation.console.as_json:
        invocation.console.json({"data": str(data), "ran": ran})
    else:
        invocation.console.say(f"the daemon of {data} " + ("is stopped" if ran else "did not run"))
    return 0


def _data_folder(given: str | None) -> Path:
    """Where a new node keeps its data: root's in /var/lib, others' in their own folder."""
    if given:
        return Path(given).resolve()
    if os.geteuid() == 0:
        return Path(contexts.SYSTEM_DATA)
    return Path(contexts.data_base(os.environ)) / "node"


def _existing_data(given: str | None) -> Path:
    if given:
        return _node_folder(Path(given).resolve())
    candidates = contexts.node_folders(os.environ)
    candidates.append(contexts.data_base(os.environ) + "/embedded")
    for data in candidates:
        if exists(data + "/cluster.json"):
            return Path(data)
    raise NotFoundError(
        "there is no node on this machine", hint="say where it is with --data, or: perseus init"
    )


def _node_folder(data: Path) -> Path:
    if not exists(str(data / "cluster.json")):
        raise NotFoundError(
            f"{data} is not the data folder of a node",
            hint=f"make it one: perseus init --data {as_file(data)}; or leave out --data",
        )
    return data


def _settings(invocation: Invocation) -> dict[str, str]:
    return {
        **{key: str(value) for key, value in invocation.configuration.daemon_settings().items()},
        **parse_settings(invocation.options.set),
    }


def parse_settings(words: list[str]) -> dict[str, str]:
    """``--set NAME=VALUE`` words; raises UsageError for what is no setting or no value of it."""
    given = dict(runspec.pair(word, "--set") for word in words)
    units.checked(from_mappings, given)
    return given


def login(invocation: Invocation) -> int:
    """Makes this machine a client of a cluster."""
    load_site()
    from perseus.identity.files import new_key_and_request
    from perseus.rpc.tls_client import bootstrap

    options = invocation.options
    check_place(os.environ)
    name = options.name or f"{getpass.getuser()}@{socket.gethostname()}"
    key_pem, request_pem = new_key_and_request(name)
    connection, parts = units.checked(bootstrap, options.address, options.token)
    with connection:
        answer = connection.call(
            "Cluster.Login",
            {
                "token": parts.secret,
                "name": name,
                "certificate_request_pem": _text(request_pem),
                "time_s": time.time(),
            },
        )
    context = Context(
        name=options.save_as or answer["cluster_id"],
        cluster_id=answer["cluster_id"],
        address=options.address,
        ca_pem=answer["ca_pem"],
        certificate_pem=answer["certificate_pem"],
        key_pem=_text(key_pem),
    )
    path = install(context, os.environ, use=True)
    role = answer.get("role", "").removeprefix("ROLE_").lower()
    if invocation.console.as_json:
        invocation.console.json({"context": context.name, "file": path, "role": role})
    else:
        invocation.console.say(
            f"logged in as {answer.get('name', name)} ({role}); context {context.name} is in use"
        )
    return 0


def _text(pem: bytes | str) -> str:
    return pem if isinstance(pem, str) else pem.decode()


def token_create(invocation: Invocation) -> int:
    """Prints a token, and what to type with it."""
    options = invocation.options
    ttl_s = _ttl_s(options.ttl) if options.ttl is not None else 0.0
    made = units.checked(invocation.cluster.create_token, options.role, ttl_s)
    if invocation.console.as_json:
        invocation.console.json(made)
        return 0
    verb = "join" if options.role == "node" else "login"
    # What the answer took on its way is not taken off: an hour is an hour.
    left = units.format_duration(math.ceil(made.expires_at_s - time.time()))
    invocation.console.say(f"works once, for {left}, with:")
    invocation.console.say(f"  perseus {verb} {made.master_address} --token {made.token}")
    invocation.console.line(made.token)
    return 0


def _ttl_s(text: str) -> float:
    ttl_s = units.parse_duration_s(text, "--ttl")
    # To the cluster 0 means that nothing was said.
    if ttl_s <= 0:
        raise units.UsageError(f"--ttl {text}: a token must last a while", hint="--ttl 1h")
    return ttl_s


def token_ls(invocation: Invocation) -> int:
    """A table of tokens."""
    tokens = invocation.cluster.tokens()
    if invocation.console.as_json:
        invocation.console.json(tokens)
        return 0
    rows = [
        (token.token_id, token.role, token.used_by or "-", _left(token.expires_at_s))
        for token in tokens
    ]
    invocation.console.table(("TOKEN", "ROLE", "USED BY", "EXPIRES IN"), rows)
    return 0


def _left(expires_at_s: float) -> str:
    left_s = expires_at_s - time.time()
    return units.format_duration(left_s) if left_s > 0 else "over"


def token_revoke(invocation: Invocation) -> int:
    """Tokens that can no longer be used."""
    for token_id in invocation.options.token:
        # The whole token is as good as its id.
        parts = token_id.split(".")
        invocation.cluster.revoke_token(parts[1] if len(parts) == 4 else token_id)
        if invocation.console.as_json:
            invocation.console.json({"revoked": token_id})
    return 0
