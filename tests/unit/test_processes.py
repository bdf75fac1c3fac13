"""What the kernel tells of processes, and addresses as people write them."""

import os
import signal
import subprocess

import pytest

from perseus.errors import InvalidError
from perseus.rpc.addresses import join_address, split_address
from perseus.runtime.processes import stat


def test_a_process_its_parent_and_its_end() -> None:
    process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    try:
        found = stat(process.pid)
        assert found is not None
        assert (found.parent, found.session) == (os.getpid(), process.pid)
        own = stat(os.getpid())
        assert own is not None and own.start_ticks <= found.start_ticks
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        stopped = stat(process.pid)
        assert stopped is not None and stopped.state == "T"
    finally:
        process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert stat(process.pid) is None, "a zombie is gone"
    process.wait()
    assert stat(process.pid) is None


@pytest.mark.parametrize("address", ["[::1]:7700", "10.0.0.1:0", "attic.lan:65535"])
def test_addresses_and_back(address: str) -> None:
    assert join_address(*split_address(address)) == address


@pytest.mark.parametrize(
    "text", ["", "host", ":1", "[]:1", "host:", "host:x", "host:²", "host:65536", "host:-1"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InvalidError, match="is not an address"):
        split_address(text)
