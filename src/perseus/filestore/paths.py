"""Paths of the filestore: what may be one, and its one written form.

A path is absolute, its names are UTF-8 of 1 to 255 bytes, joined by '/'. A name
holds no NUL and is neither '.' nor '..': a path means the same for everyone,
wherever it is read. Doubled and trailing slashes are forgiven and taken away.
The root is "/". This module imports only ``errors``; the command line uses it.
"""

from perseus.errors import InvalidError
from perseus.shellwords import as_word

PATH_MAXIMUM_BYTES = 4096
NAME_MAXIMUM_BYTES = 255
LEVELS_MAXIMUM = 255

ROOT = "/"
_SHORTER = (
    "use shorter names or fewer folders; or pack the tree: tar c FOLDER | perseus fs put - /a.tar"
)


def split(path: str) -> tuple[str, ...]:
    """The names of ``path`` from the root down, () for the root; raises InvalidError."""
    if not path:
        raise InvalidError("the path is empty", hint="write a path that begins with '/': /logs")
    shown = repr(path) if len(path) <= 200 else f"{path[:200]!r}…"
    if not path.startswith("/"):
        raise InvalidError(
            f"the path {shown} is not absolute",
            hint=f"write {as_word('/' + path.removeprefix('./')[:200])}",
        )
    if len(_encode(path, shown)) > PATH_MAXIMUM_BYTES:
        raise InvalidError(
            f"the path {shown} is longer than {PATH_MAXIMUM_BYTES} bytes", hint=_SHORTER
        )
    names = tuple(name for name in path.split("/") if name)
    if len(names) > LEVELS_MAXIMUM:
        raise InvalidError(f"the path {shown} has more than {LEVELS_MAXIMUM} levels", hint=_SHORTER)
    for name in names:
        _check(name, shown)
    return names


def normalise(path: str) -> str:
    """The one written form of ``path``; raises InvalidError."""
    return "/" + "/".join(split(path))


def check_name(name: str) -> str:
    """Returns ``name`` if it can be one name of a path; raises InvalidError."""
    shown = repr(name)
    if not name or "/" in name:
        raise InvalidError(f"{shown} is not a name", hint="a name is not empty and has no '/'")
    _encode(name, shown)
    _check(name, shown)
    return name


def join(folder: str, name: str) -> str:
    """The path of ``name`` in ``folder``; both as split and check_name want them."""
    return normalise(f"{folder}/{check_name(name)}")


def parent(path: str) -> str:
    """The folder that holds ``path``; the root is its own."""
    return "/" + "/".join(split(path)[:-1])


def _encode(text: str, shown: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidError(
            f"{shown} is not UTF-8", hint="rename it, or name the target of the copy"
        ) from None


def _check(name: str, shown: str) -> None:
    if "\0" in name:
        raise InvalidError(f"the path {shown} has a NUL character in it", hint="leave it out")
    if name in (".", ".."):
        raise InvalidError(
            f"the path {shown} has {name!r} in it", hint="write the path out from the root"
        )
    if len(name) > NAME_MAXIMUM_BYTES // 4 and len(name.encode()) > NAME_MAXIMUM_BYTES:
        raise InvalidError(
            f"a name in the path {shown} is longer than {NAME_MAXIMUM_BYTES} bytes", hint=_SHORTER
        )
