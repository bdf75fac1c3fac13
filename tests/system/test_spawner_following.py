"""What the spawner starts at the end of another task."""

import asyncio
import signal
from pathlib import Path

import pytest
from test_spawner import Bench, with_spawner

from perseus.errors import LeaseLostError


def test_what_follows_a_task_starts_at_its_end(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        gate = tmp_path / "gate"
        script = f"while ! test -e {gate}; do sleep 0.01; done; echo first"
        first = await bench.spawner.spawn(bench.request("sh", "-c", script))
        second = asyncio.create_task(bench.spawner.spawn(bench.request("echo", "second"), first))
        assert (await bench.run("true")).exit_code == 0
        assert not second.done()
        gate.touch()
        assert (await bench.spawner.wait(first)).exit_code == 0
        assert (await bench.spawner.wait(await second)).exit_code == 0
        assert bench.out() == "first\nsecond\n"
        # Of one that is over nobody need wait for the end.
        third = await bench.spawner.spawn(bench.request("true"), first)
        assert (await bench.spawner.wait(third)).exit_code == 0

    with_spawner(tmp_path, body)


@pytest.mark.parametrize("how", ["free", "freeze", "kill_all"])
def test_what_follows_a_task_can_be_refused(tmp_path: Path, how: str) -> None:
    async def body(bench: Bench) -> None:
        first = await bench.spawner.spawn(bench.request("sleep", "1000"))
        second = asyncio.create_task(bench.spawner.spawn(bench.request("touch", "no"), first))
        await asyncio.sleep(0)
        getattr(bench.spawner, how)(*([first] if how == "free" else []))
        with pytest.raises(LeaseLostError):
            await second
        bench.spawner.send_signal(first, signal.SIGKILL)
        assert (await bench.spawner.wait(first)).signal == signal.SIGKILL
        bench.spawner.thaw(())
        assert (await bench.run("true")).exit_code == 0
        assert not (tmp_path / "no").exists()

    with_spawner(tmp_path, body)
