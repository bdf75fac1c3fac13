"""The direct way to the chunkservers: what is looked at before it is taken."""

import subprocess
import sys
import time

import pytest

from perseus.client.bulk import Bulk
from perseus.client.context import Context
from perseus.client.transport import Transport
from perseus.errors import RefusedError
from perseus.identity import roles
from perseus.identity.authority import Authority
from perseus.identity.files import new_key_and_request
from perseus.identity.subject import Subject

DAY_S = 86400.0


@pytest.mark.parametrize(("begun_days", "said"), [(5, "begins only in 5 days"), (-5, "expired")])
def test_a_clock_that_is_off_is_named_before_any_chunkserver_is_tried(
    begun_days: float, said: str
) -> None:
    begun_s = time.time() + begun_days * DAY_S
    authority = Authority.create("c-1", begun_s)
    key_pem, request_pem = new_key_and_request("ada")
    subject = Subject("user", "ada", roles.USER)
    context = Context(
        name="home",
        # Nothing listens there: nobody is called.
        address="127.0.0.1:1",
        cluster_id="c-1",
        ca_pem=authority.ca_pem.decode(),
        certificate_pem=authority.sign(request_pem, subject, DAY_S, begun_s).decode(),
        key_pem=key_pem.decode(),
    )
    with pytest.raises(RefusedError, match=said) as caught:
        Bulk(Transport(context))
    assert "this machine's clock (`date`)" in caught.value.hint


@pytest.mark.parametrize(("given", "found"), [(None, "ERROR"), ("debug", "debug")])
def test_grpc_is_quiet_unless_the_person_wants_its_log(given: str | None, found: str) -> None:
    script = (
        "import os, perseus.client.bulk as bulk\n"
        "try: bulk._filestore_client(None)\n"
        "except AttributeError: print(os.environ['GRPC_VERBOSITY'])\n"
    )
    environment = {} if given is None else {"GRPC_VERBOSITY": given}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**environment, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == found, done.stderr
