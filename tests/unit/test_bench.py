"""The table of the bench says what was measured, what was not, and what was not reached."""

from pathlib import Path

from bench.base import Bench, Row, medians, run, sample_file
from bench.run import page


def test_rows_show_value_ratio_and_verdict() -> None:
    text = page(
        [
            Row("ours", 61.2, "ms", "<= 60", False),
            Row("ours beside ssh", 240.0, "ms", "below it", True, "ssh", 0.255),
            Row("lost", None, ""),
        ],
        ["srun: not installed"],
    )
    assert "| ours | 61.2 ms |  |  | <= 60 | **no** |" in text
    assert "| ours beside ssh | 240 ms | ssh | 0.26 | below it | yes |" in text
    assert "| lost | failed |" in text
    assert "- srun: not installed" in text


def test_medians_take_turns() -> None:
    turns: list[str] = []

    def timer(name: str) -> float:
        turns.append(name)
        return float(len(turns))

    taken = medians({"a": lambda: timer("a"), "b": lambda: timer("b")}, 3)
    assert turns == ["a", "b"] * 4
    assert taken == {"a": 5.0, "b": 6.0}


def test_sample_file_has_its_length_and_does_not_repeat(tmp_path: Path) -> None:
    path = sample_file(tmp_path / "sample", (2 << 20) + 5)
    content = path.read_bytes()
    assert len(content) == (2 << 20) + 5
    assert content[: 1 << 20] != content[1 << 20 : 2 << 20]


def test_a_failed_command_ends_the_measurement() -> None:
    try:
        run(["sh", "-c", "echo why >&2; exit 3"])
    except RuntimeError as error:
        assert "ended with 3: why" in str(error)
    else:
        raise AssertionError("nothing was raised")


def test_what_is_left_out_is_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path, quick=True)
    bench.skip("srun", "not installed")
    assert bench.skipped == ["srun: not installed"]
