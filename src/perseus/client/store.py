"""The contexts kept on this machine: written, listed, chosen.

They lie in ``$XDG_CONFIG_HOME/perseus/contexts/NAME.json``, mode 600; the link
``context`` beside that folder names the one in use.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping

from perseus.client import context as contexts
from perseus.client.context import Context
from perseus.errors import InvalidError, NotFoundError, PerseusError, UnavailableError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


def save(context: Context, path: str) -> None:
    """Writes a context file, mode 600, atomically. Raises UnavailableError."""
    with _told_of(path):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        temporary = f"{path}.{os.getpid()}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with open(descriptor, "w") as file:
                json.dump(context.as_dict(), file, indent=2)
                file.write("\n")
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise


def check_place(environment: Mapping[str, str]) -> None:
    """Raises UnavailableError where no context can be kept: before a token is used up for one."""
    folder = f"{contexts.config_folder(environment)}/contexts"
    probe = f"{folder}/.{os.getpid()}"
    with _told_of(folder):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        # Asking for the right to write is not enough: a disk may be full.
        with open(probe, "wb") as file:
            file.write(b"\n")
        os.unlink(probe)


@contextlib.contextmanager
def _told_of(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnavailableError(
            f"the context cannot be kept in {path}: {error.strerror}",
            hint="name a folder that can be written: export XDG_CONFIG_HOME=FOLDER",
        ) from None


def install(context: Context, environment: Mapping[str, str], use: bool | None = None) -> str:
    """Keeps a context under its name and returns its file.

    ``use`` makes it the one in use; None does so when none is in use.
    """
    if not _NAME.match(context.name):
        raise InvalidError(
            f"{context.name!r} cannot be a context's name", hint="letters, digits, '.', '_', '-'"
        )
    path = contexts.named_path(context.name, environment)
    if contexts.exists(path) and contexts.read(path).cluster_id != context.cluster_id:
        # Another cluster has the name; the ids tell them apart.
        context.name = context.cluster_id
        path = contexts.named_path(context.name, environment)
    save(context, path)
    context.path = path
    if use or (use is None and not contexts.exists(contexts.current_path(environment))):
        _link(path, environment)
    return path


def known(environment: Mapping[str, str]) -> list[Context]:
    """All contexts that are kept, by name; those that cannot be read are left out."""
    folder = f"{contexts.config_folder(environment)}/contexts"
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        if name.endswith(".json"):
            try:
                found.append(contexts.read(f"{folder}/{name}"))
            except PerseusError:
                continue
    return found


def use(name: str, environment: Mapping[str, str]) -> Context:
    """Makes a context, by name or file, the one in use. As ``contexts.load`` raises."""
    is_file = "/" in name or name.endswith(".json")
    path = os.path.abspath(name) if is_file else contexts.named_path(name, environment)
    if not is_file and not contexts.exists(path):
        names = ", ".join(one.name for one in known(environment)) or "none"
        raise NotFoundError(
            f"there is no context {name!r}", hint=f"contexts are: {names}; or give a file"
        )
    context = contexts.load(path)
    _link(path, environment)
    return context


def _link(path: str, environment: Mapping[str, str]) -> None:
    link = contexts.current_path(environment)
    with _told_of(link):
        os.makedirs(os.path.dirname(link), mode=0o700, exist_ok=True)
        temporary = f"{link}.{os.getpid()}"
        os.symlink(path, temporary)
        os.replace(temporary, link)
