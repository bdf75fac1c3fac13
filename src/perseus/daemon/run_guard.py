"""Who may have a certificate of a run of an algorithm: its processes, and whose run it is.

A run is a folder of the filestore, and its processes are tasks that the folder's owner
submitted; their names and places are written down where ``hosting`` begins a run.
"""

from perseus.errors import NotFoundError, RefusedError
from perseus.filestore.namespace import Namespace
from perseus.identity import roles
from perseus.jobs.state import Jobs
from perseus.rpc.call import Caller

RUNS_FOLDER = "/algo"
RECORD = "run.json"


class RunGuard:
    """Asked by ``ClusterService`` before it signs."""

    def __init__(self, namespace: Namespace, jobs: Jobs, own_node_id: str) -> None:
        self._namespace = namespace
        self._jobs = jobs
        self._own_node_id = own_node_id

    def __call__(self, run: str, process: str, caller: Caller) -> None:
        """Raises NotFoundError for a run that is not there, RefusedError for another's."""
        folder = self._namespace.find(f"{RUNS_FOLDER}/{run}") if run.isalnum() else None
        if folder is None or self._namespace.find(f"{RUNS_FOLDER}/{run}/{RECORD}") is None:
            raise NotFoundError(f"there is no run {run[:80]!r}", hint="perseus algo ps")
        if not process:
            self._check_control(run, folder.owner, caller)
        elif not self._is_process(run, process, folder.owner, caller):
            raise RefusedError(
                f"no task for {process[:80]!r} of run {run} is leased to where you call from",
                hint="perseus algo run starts the processes of a run",
            )

    def _check_control(self, run: str, owner: str, caller: Caller) -> None:
        if caller.name != owner and caller.role != roles.ADMIN:
            raise RefusedError(
                f"run {run} is {owner}'s, and you are {caller}",
                hint=f"ask {owner} or an admin; perseus algo check {run} is for everybody",
            )

    def _is_process(self, run: str, process: str, owner: str, caller: Caller) -> bool:
        node_id = caller.via_node_id or caller.node_id
        if not node_id and caller.kind == "local":
            node_id = self._own_node_id
        return self._jobs.is_at(node_id, f"algo {run} {process}", owner)
