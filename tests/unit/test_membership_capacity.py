"""Measuring a machine: what the kernel and control groups say of it."""

import errno
import os
import platform
from pathlib import Path

import pytest

from perseus.membership import capacity
from perseus.membership.capacity import measure_capacity, memory_left_bytes, memory_limit_bytes
from perseus.membership.load import LoadMeter
from perseus.membership.values import (
    Capacity,
    capacity_from_message,
    capacity_to_message,
    load_from_message,
    load_to_message,
)


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A control group tree of version 2 in which this process is in ``outer/inner``."""
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    real = capacity._read

    def read(path: Path) -> str:
        return "0::/outer/inner" if path == Path("/proc/self/cgroup") else real(path)

    monkeypatch.setattr(capacity, "_read", read)
    return tmp_path


def test_this_machine_is_measured(tmp_path: Path) -> None:
    measured = measure_capacity(tmp_path)
    assert 0 < measured.cpu <= len(os.sched_getaffinity(0))
    assert 0 < measured.memory_bytes <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert measured.disk_bytes > 0 and 0.01 < measured.speed < 100
    assert measured.architecture == platform.machine() and measured.operating_system
    assert capacity_from_message(capacity_to_message(measured)) == measured


def test_affinity_limits_the_cores(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert measure_capacity(tmp_path).cpu <= 1.0
    finally:
        os.sched_setaffinity(0, before)


def test_the_tightest_control_group_counts(groups: Path) -> None:
    (groups / "outer" / "cpu.max").write_text("50000 100000\n")
    (groups / "outer" / "inner" / "cpu.max").write_text("max 100000\n")
    (groups / "outer" / "memory.max").write_text(f"{256 << 20}\n")
    (groups / "outer" / "memory.current").write_text(f"{100 << 20}\n")
    (groups / "outer" / "memory.stat").write_text(f"anon 1\ninactive_file {60 << 20}\n")
    (groups / "outer" / "inner" / "memory.max").write_text("max\n")
    assert measure_capacity(groups, groups).cpu == 0.5
    assert memory_limit_bytes(groups) == 256 << 20
    assert memory_left_bytes(groups) == (256 - 100 + 60) << 20


def test_without_limits_the_machine_counts(groups: Path) -> None:
    assert memory_left_bytes(groups) is None
    assert memory_limit_bytes(groups) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_load_is_within_what_the_machine_has(tmp_path: Path) -> None:
    meter = LoadMeter(tmp_path, lambda: 3)
    load = meter.measure()
    assert 0.0 <= load.cpu <= 1.0 and load.load_average >= 0.0
    assert 0 < load.memory_available_bytes <= memory_limit_bytes()
    assert load.disk_free_bytes > 0 and load.attempts_running == 3
    assert load_to_message(load_from_message(load)) == load
    gone = LoadMeter(tmp_path / "gone").measure()
    assert (gone.disk_free_bytes, gone.disk_gone, load.disk_gone) == (0, True, False)


def test_an_empty_capacity_survives_the_wire() -> None:
    assert capacity_from_message(capacity_to_message(Capacity(speed=0.0))) == Capacity(speed=0.0)


def test_a_load_that_cannot_be_measured_is_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when strangers have taken every descriptor: the daemon lives on."""

    def fail() -> float:
        raise OSError(errno.EMFILE, "Too many open files", "/proc/stat")

    meter = LoadMeter(tmp_path)
    before = meter.measure()
    monkeypatch.setattr(meter._psutil, "cpu_percent", fail)
    assert before.memory_available_bytes and meter.measure() == before
