"""Perseus turns a pile of computers into one shell.

``import perseus; cluster = perseus.connect()`` is where programs begin. The
import is light: nothing heavy is loaded before it is used.
"""

__version__ = "0.1.0"

# Public names and the modules that hold them, loaded at first use.
_PUBLIC = {
    "connect": "perseus.client.cluster",
    "connect_async": "perseus.client.aio",
    "Cluster": "perseus.client.cluster",
    "Job": "perseus.client.jobs",
    "Task": "perseus.client.jobs",
    "Output": "perseus.client.output",
    "File": "perseus.client.files",
    "Files": "perseus.client.files",
    "AsyncCluster": "perseus.client.aio",
    "PerseusError": "perseus.errors",
}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from perseus import errors as errors
    from perseus.client import aio as aio
    from perseus.client.aio import AsyncCluster as AsyncCluster
    from perseus.client.aio import connect_async as connect_async
    from perseus.client.cluster import Cluster as Cluster
    from perseus.client.cluster import connect as connect
    from perseus.client.files import File as File
    from perseus.client.files import Files as Files
    from perseus.client.jobs import Job as Job
    from perseus.client.jobs import Task as Task
    from perseus.client.output import Output as Output
    from perseus.errors import PerseusError as PerseusError


def __getattr__(name: str) -> object:
    if name in ("aio", "errors"):
        from importlib import import_module

        return import_module(f"perseus.{'client.' if name == 'aio' else ''}{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'perseus' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC, "aio", "errors"])
