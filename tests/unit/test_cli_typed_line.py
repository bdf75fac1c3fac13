"""Lines of bash as they are typed: their words, and names that come back from it as they were."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perseus.cli.typed_line import TypedLine

NAMES = st.text(st.sampled_from("ab/ '\"`$(){}\\\\;&|<>*?[]#~!^=:@é\t"), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("line", "replaced", "words", "quote", "kept"),
    [
        ("p fs ", "", ["p", "fs", ""], "", 0),
        ("p  /a\\ b", "/a\\ b", ["p", "/a b"], "", 0),
        ("p '/a b", "/a b", ["p", "/a b"], "'", 0),
        ('p "/a\\"b\\c', '/a\\"b\\c', ["p", '/a"b\\c'], '"', 0),
        ("p /a/'b c", "b c", ["p", "/a/b c"], "'", 3),
        ("p 'x y' z", "z", ["p", "x y", "z"], "", 0),
        ("p --f=/a", "/a", ["p", "--f=/a"], "", 4),
        ("p ''", "''", ["p", ""], "", 0),
        ("", "", [""], "", 0),
    ],
)
def test_a_line_is_cut_as_bash_cuts_it(
    line: str, replaced: str, words: list[str], quote: str, kept: int
) -> None:
    typed = TypedLine(line, replaced)
    assert (typed.words, typed.quote, typed.kept) == (words, quote, kept)


def _completed(name: str, quote: str) -> str:
    """As bash leaves it: with the quote closed that was open, unless what came ends with one."""
    written = quote + TypedLine(quote, "").quoted(name)
    return written if written.endswith(quote) and len(written) > 1 else written + quote


@given(st.lists(st.tuples(NAMES, st.sampled_from(["", "'", '"'])), min_size=1, max_size=20))
@settings(deadline=None, max_examples=50)
def test_bash_reads_back_what_stands_at_the_cursor(names: list[tuple[str, str]]) -> None:
    line = " ".join(["printf", r"'%s\0'", *(_completed(name, quote) for name, quote in names)])
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
    assert done.stdout == b"".join(name.encode() + b"\0" for name, _ in names)
    # And so does the line itself, when a person goes on from there.
    assert TypedLine(line, "").words[2:] == [name for name, _ in names]
