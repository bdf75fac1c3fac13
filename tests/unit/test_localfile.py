"""What already stands at the name that a file is copied to is kept as it should be."""

import os
import stat
import threading
from pathlib import Path

import pytest

from perseus import localfile


def copy(target: Path, content: bytes) -> None:
    with localfile.writing(target) as opened:
        opened.write(content)


def test_an_existing_file_is_replaced_and_keeps_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "script"
    target.write_bytes(b"old")
    target.chmod(0o751)
    with open(target, "rb") as reader:
        copy(target, b"new")
        assert reader.read() == b"old"
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o751
    assert os.listdir(tmp_path) == ["script"]


@pytest.mark.parametrize("has_file", [True, False])
def test_a_link_is_followed_and_stays(tmp_path: Path, has_file: bool) -> None:
    (tmp_path / "below").mkdir()
    real, first, link = tmp_path / "below/real", tmp_path / "below/first", tmp_path / "link"
    if has_file:
        real.write_bytes(b"old")
    first.symlink_to("real")
    link.symlink_to("below/first")
    copy(link, b"new")
    assert link.is_symlink() and first.is_symlink()
    assert real.read_bytes() == b"new"


@pytest.mark.parametrize("is_linked", [True, False])
def test_a_fifo_is_written_and_stays(tmp_path: Path, is_linked: bool) -> None:
    fifo = target = tmp_path / "fifo"
    os.mkfifo(fifo)
    if is_linked:
        target = tmp_path / "link"
        target.symlink_to(fifo)
    writer = threading.Thread(target=copy, args=(target, b"abc"), daemon=True)
    writer.start()
    with open(fifo, "rb") as reader:
        assert reader.read() == b"abc"
    writer.join(60)
    assert stat.S_ISFIFO(fifo.lstat().st_mode)


def test_a_pipe_by_its_descriptor_is_written(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    copy(Path(f"/proc/self/fd/{writing}"), b"abc")
    os.close(writing)
    with open(reading, "rb") as reader:
        assert reader.read() == b"abc"


def test_what_breaks_off_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), localfile.writing(target) as opened:
        opened.write(b"new")
        raise ZeroDivisionError
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_name_as_long_as_can_be(tmp_path: Path) -> None:
    target = tmp_path / ("ü" * 127)
    copy(target, b"new")
    assert target.read_bytes() == b"new"
