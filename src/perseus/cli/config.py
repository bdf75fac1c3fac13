"""Where the defaults of commands come from.

A flag goes before the environment, that before the project file (``perseus.toml``
in this folder or above), that before ``$XDG_CONFIG_HOME/perseus/config.toml``.
The files hold, at the top, ``context``, ``quiet``, ``json``, and daemon settings
(``perseus.settings``) for ``init``, ``join`` and ``dev up``; under ``[run]`` the
defaults of ``run`` and ``submit`` by the names of their flags::

    context = "lab"
    [run]
    memory = "1G"
    env = ["LANG=C"]

In the environment: ``PERSEUS_CONTEXT``, ``PERSEUS_QUIET=1``, ``PERSEUS_JSON=1``,
``PERSEUS_RUN_MEMORY=1G``, and ``PERSEUS_LEASE_S`` and so on for daemons.
"""

import os
from collections.abc import Mapping
from typing import Any

from perseus.cli import runspec
from perseus.cli.fast import project_file
from perseus.client.context import config_folder
from perseus.errors import InvalidError
from perseus.shellwords import as_file

# Name of a client's setting: what it means. The reference page is made from it.
SETTINGS = {
    "context": "which cluster: a name of `perseus context ls`, or a file",
    "quiet": "as -q: say only results and errors",
    "json": "as --json: machine-readable output",
    "run": "a table with defaults of `run` and `submit`, by the names of their flags",
}


class Configuration:
    """The merged layers below the flags."""

    def __init__(self, values: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self._values = values
        self._environment = environment

    def text(self, name: str) -> str | None:
        """A client's setting, or None."""
        value = self._environment.get(f"PERSEUS_{name.upper()}") or self._values.get(name)
        return None if value is None else str(value)

    def flag(self, name: str) -> bool:
        """A client's setting that is on or off."""
        return _is_on(self.text(name) or "")

    def run_default(self, dest: str, how: str) -> Any:
        """The default of one of ``run``'s flags (``how`` as in ``runspec.FLAGS``), or None."""
        value = self._environment.get(f"PERSEUS_RUN_{dest.upper()}")
        if value is None:
            value = self._values.get("run", {}).get(dest)
        if value is None:
            return None
        if how == "list":
            return [str(one) for one in value] if isinstance(value, list) else [str(value)]
        if how == "switch":
            return _is_on(str(value)) or None
        return str(value)

    def daemon_settings(self) -> dict[str, Any]:
        """The files' settings of daemons; the environment's are read by the daemon itself."""
        return {name: value for name, value in self._values.items() if name not in SETTINGS}


def _is_on(text: str) -> bool:
    return text.lower() in ("1", "true", "yes", "on")


def read(environment: Mapping[str, str] = os.environ) -> Configuration:
    """Reads both files; raises InvalidError for one that cannot be understood."""
    merged: dict[str, Any] = {}
    for path in (config_folder(environment) + "/config.toml", project_file()):
        layer = _layer(path) if path else {}
        run = {**merged.get("run", {}), **layer.get("run", {})}
        merged = merged | layer
        if run:
            merged["run"] = run
    return Configuration(merged, environment)


def _layer(path: str) -> dict[str, Any]:
    import tomllib

    try:
        with open(path, "rb") as file:
            values = tomllib.load(file)
    except (FileNotFoundError, NotADirectoryError):
        # Some users' HOME is /dev/null.
        return {}
    except OSError as error:
        raise InvalidError(
            f"{path} cannot be read: {error.strerror}", hint=f"ls -l {as_file(path)}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidError(
            f"{path} cannot be read: {error}",
            hint='it is TOML, as in: context = "lab"; mend it, or move it away: '
            f"mv {as_file(path)} /tmp",
        ) from None
    _check(path, values)
    return values


def _check(path: str, values: Mapping[str, Any]) -> None:
    from dataclasses import fields

    from perseus.settings import Settings

    known = set(SETTINGS) | {field.name for field in fields(Settings)}
    unknown = [name for name in values if name not in known]
    run = values.get("run", {})
    if not isinstance(run, Mapping):
        raise InvalidError(f"{path}: run is not a table", hint="write [run] and lines below it")
    flags = {entry[0] for entry in runspec.FLAGS.values()}
    unknown += [f"run.{name}" for name in run if name not in flags]
    if unknown:
        raise InvalidError(
            f"{path}: there is no setting {unknown[0]!r}",
            hint=f"settings are: {', '.join(sorted(known))}; in [run]: {', '.join(sorted(flags))}",
        )
