"""Certificates of a run: for whom they are made, and that long runs outlive them."""

import time
from collections.abc import Iterator
from pathlib import Path

import harness
import pytest
from algo_harness import Lab
from harness import FAST_LEASE, until

from perseus.client.cluster import Cluster
from perseus.client.context import Context, load, named_path
from perseus.errors import NotFoundError, RefusedError
from perseus.hosting.certificate import RunCertificate
from perseus.hosting.runs import Runs
from perseus.identity.subject import validity_of

KV = "perseus.algo.library.kv:Kv"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Certificates last ten seconds, the least that they may."""
    settings = {**FAST_LEASE, "certificate_s": "10"}
    with harness.cluster(tmp_path_factory.mktemp("algo"), 2, settings) as cluster:
        made = Lab(cluster)
        with made.client:
            yield made


def _at(lab: Lab, node: str) -> Cluster:
    """Who calls from a node, as a task there does."""
    socket = str(lab.cluster.folder / node / "run/perseusd.sock")
    return Cluster(Context(name="node", socket=socket))


def _refused(caller: Cluster, run: str, process: str, *words: str) -> None:
    with pytest.raises(RefusedError) as caught:
        RunCertificate.ask(caller, run, process)
    assert all(word in str(caught.value) for word in words), caught.value


def test_they_are_given_to_the_processes_and_the_owner_of_a_run(lab: Lab) -> None:
    run = lab.start(KV, 2)
    here = next(p for p, node in run.nodes.items() if node == "node-2")
    there = next(p for p, node in run.nodes.items() if node == "node-1")
    with _at(lab, "node-2") as near, _at(lab, "node-1") as master:
        assert RunCertificate.ask(near, run.run, here).run == run.run
        assert RunCertificate.ask(master, run.run, there).run == run.run
        for asking, process in ((near, there), (master, here), (near, "n9"), (lab.client, here)):
            _refused(asking, run.run, process, "is leased to")
        assert RunCertificate.ask(near, run.run).run == run.run, "its owner, on another node"
    for unknown in ("nothing", "no/../run", ""):
        with pytest.raises(NotFoundError, match="there is no run"):
            RunCertificate.ask(lab.client, unknown)
    lab.algo("stop", run.run).ok()
    with _at(lab, "node-2") as near:
        _refused(near, run.run, here, "is leased to")


def test_another_user_does_not_control_a_run(lab: Lab, tmp_path: Path) -> None:
    run = lab.start(KV, 2)
    context = _login(lab, "user", tmp_path)
    with Cluster(context) as other:
        _refused(other, run.run, "", f"run {run.run} is", "ask")
    with Cluster(_login(lab, "admin", tmp_path)) as admin:
        assert RunCertificate.ask(admin, run.run).run == run.run
    lab.algo("stop", run.run).ok()


def _login(lab: Lab, role: str, folder: Path) -> Context:
    token = lab.client.create_token(role=role)
    home = {"HOME": str(folder / role)}
    words = ("login", token.master_address, "--token", token.token, "--name", role, "--as", "lab")
    lab.cluster.perseus(*words, extra=home | {"PERSEUS_CONTEXT": ""}).ok()
    return load(str(named_path("lab", home)))


def test_a_run_outlives_its_certificates(lab: Lab) -> None:
    run = lab.start(KV, 3)
    first = RunCertificate.ask(lab.client, run.run)
    assert first.life_s == pytest.approx(10.0, abs=2.0) and first.renewal_in_s() > 4.0
    ended_s = validity_of(first.certificate_pem)[1] + 2.0
    until(lambda: time.time() > ended_s, "the first certificates are over")
    # Each is asked on a connection of its own, at which both sides show their certificates.
    runs = Runs(lab.client)
    assert {each.state for each in runs.look(run)} == {"up"}
    lab.go_on(run)
    lab.algo("kill", run.run, lab.leader(run)).ok()
    lab.go_on(run)
    again_s = time.time() + 12.0
    until(lambda: time.time() > again_s, "the certificate that this program had is over too")
    assert {each.state for each in runs.look(run)} == {"up"}
    code, said = lab.check(run)
    assert code == 0, said
    lab.algo("stop", run.run).ok()
