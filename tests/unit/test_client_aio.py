"""asyncio's side of the client offers what the blocking side does, by the same names."""

import inspect
from typing import Any

import pytest

from perseus.client import aio, cluster, files, jobs, output, spec

PAIRS: list[tuple[Any, Any]] = [
    (cluster.Cluster, aio.AsyncCluster),
    (jobs.Job, aio.AsyncJob),
    (jobs.Task, aio.AsyncTask),
    (output.Output, aio.AsyncOutput),
    (files.Files, aio.AsyncFiles),
]
# What only the blocking side's own parts use, and the transport, whose calls block.
INNER = {"transport", "has_direct_way", "direct_writer"}


def _names(kind: Any) -> set[str]:
    """Public methods, properties, and what ``__init__`` sets."""
    attributes = {name for name in inspect.getsource(kind.__init__).split() if "self." in name}
    set_there = {name.removeprefix("self.").rstrip(":") for name in attributes}
    here = {name for name in [*vars(kind), *set_there] if name.isidentifier()}
    return {name for name in here if not name.startswith("_")} - INNER


@pytest.mark.parametrize(("blocking", "awaited"), PAIRS)
def test_both_sides_have_the_same_names(blocking: Any, awaited: Any) -> None:
    assert _names(blocking) <= _names(awaited), "missing from asyncio's side"


@pytest.mark.parametrize(("blocking", "awaited"), PAIRS)
def test_what_is_called_takes_the_same_arguments(blocking: Any, awaited: Any) -> None:
    for name in _names(blocking):
        theirs = getattr(blocking, name, None)
        ours = getattr(awaited, name, None)
        if inspect.isfunction(theirs):
            assert _arguments(ours) == _arguments(theirs), f"{awaited.__name__}.{name}"
        elif isinstance(theirs, property):
            assert isinstance(ours, property), f"{awaited.__name__}.{name}"


@pytest.mark.parametrize(("blocking", "awaited"), PAIRS)
def test_help_tells_what_the_blocking_side_tells(blocking: Any, awaited: Any) -> None:
    for name in _names(blocking):
        ours = getattr(awaited, name, None)
        if inspect.isfunction(ours):
            assert ours.__doc__ and ours.__qualname__ == f"{awaited.__name__}.{name}"
            assert inspect.iscoroutinefunction(ours) or inspect.isasyncgenfunction(ours)
            theirs = inspect.signature(getattr(blocking, name)).parameters
            for parameter in inspect.signature(ours).parameters.values():
                if parameter.kind is not parameter.VAR_KEYWORD:
                    assert parameter.default == theirs[parameter.name].default


@pytest.mark.parametrize(("blocking", "awaited"), PAIRS)
def test_what_is_entered_there_is_entered_here(blocking: Any, awaited: Any) -> None:
    assert hasattr(blocking, "__enter__") == hasattr(awaited, "__aenter__")


def test_an_asyncio_file_has_the_calls_that_programs_use() -> None:
    used = {"read", "write", "seek", "tell", "flush", "close", "abandon", "path", "name", "mode"}
    assert used <= _names(aio.AsyncFile)
    assert used <= _names(files.File) | set(dir(files.File))


def test_options_by_name_are_those_that_are_sent() -> None:
    sent = set(inspect.signature(spec.submit_request).parameters) - {"argv"} | {"stdin"}
    assert set(cluster.SubmitOptions.__annotations__) == sent
    run = set(inspect.signature(cluster.Cluster.run).parameters) - {"self", "argv"}
    assert set(cluster.RunOptions.__annotations__) == run


def _arguments(function: Any) -> set[str]:
    """Names of what may be given; options of a TypedDict by its keys."""
    found = set()
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            (options,) = parameter.annotation.__args__
            found |= set(options.__annotations__)
        else:
            found.add(parameter.name)
    return found
