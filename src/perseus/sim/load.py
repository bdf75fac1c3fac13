"""Finds what is to be simulated: ``FILE.py:NAME`` or ``package.module:NAME``."""

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from perseus.algo import workloads
from perseus.algo.layout import Layout
from perseus.algo.process import Process
from perseus.errors import InvalidError, NotFoundError
from perseus.shellwords import as_file

EXAMPLE = "echo.py:Echo, or perseus.algo.library.raft:Raft"


def load(target: str, workload: str = "") -> Layout:
    """The layout that ``target`` names; a class stands for a group of it.

    With a workload the class solves that problem: its clients stand beside it.
    """
    if workload:
        return workloads.layout(workload, _subject(target))
    return Layout.of(_subject(target))


def _subject(target: str) -> Any:
    place, _, name = target.rpartition(":")
    if not place or not name:
        known = _subjects(_module(target)) if target.endswith(".py") else []
        had = f", and has {', '.join(known)}" if known else ""
        said = f"{target!r} does not say what to run{had}"
        raise InvalidError(said, hint=f"FILE:CLASS, as {EXAMPLE}")
    module = _module(place)
    try:
        return getattr(module, name)
    except AttributeError:
        known = _subjects(module)
        raise NotFoundError(
            f"there is no {name} in {place}", hint=f"it has: {', '.join(known) or 'no Process'}"
        ) from None


def _subjects(module: ModuleType) -> list[str]:
    return [key for key, value in vars(module).items() if _is_subject(value)]


def _is_subject(value: object) -> bool:
    if isinstance(value, type):
        return issubclass(value, Process) and value is not Process
    return isinstance(value, Layout)


def _module(place: str) -> ModuleType:
    if not place.endswith(".py") and "/" not in place:
        if "" not in sys.path and os.getcwd() not in sys.path:
            # As `python -m` does.
            sys.path.insert(0, os.getcwd())
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            raise NotFoundError(f"{error}", hint=f"a file ends with .py: {EXAMPLE}") from None
    path = Path(place).resolve()
    if not path.is_file():
        raise NotFoundError(f"there is no file {place}", hint=f"FILE:CLASS, as {EXAMPLE}")
    name = f"perseus_subject_{path.stem}"
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(path):
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    # As for a script: its neighbours can be imported, also later, by a handler; then what is
    # installed comes first, for Perseus itself imports late.
    beside = str(path.parent)
    sys.path.insert(0, beside)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise InvalidError(
            f"{place} cannot be loaded: {type(error).__name__}: {error}",
            hint=f"python3 {as_file(place)}",
        ) from error
    finally:
        sys.path.remove(beside)
    if beside not in sys.path:
        sys.path.append(beside)
    return module
