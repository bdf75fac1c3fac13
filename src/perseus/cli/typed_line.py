"""A line of bash while it is being typed: its words, and how its last word can go on.

bash gives a completion the line as it stands, quotes and all, and puts what is
answered in the place of the end of the last word. An answer must be quoted as the
shell will read it, for names in the filestore are chosen by many: of one with a
backquote in it the shell would make a command.
"""

from perseus.shellwords import is_plain


class TypedLine:
    """The words of a line up to the cursor. (Light: a person presses a key and waits.)"""

    __slots__ = ("kept", "quote", "words")

    def __init__(self, line: str, replaced: str) -> None:
        """``replaced`` is the end of the line that the shell puts an answer in the place of."""
        # As the program would get them; the last is empty after a space.
        self.words, begins_at, quote = _scanned(line)
        # The quote that is still open at the cursor; empty when there is none.
        self.quote = quote
        before = line[begins_at : len(line) - len(replaced)]
        # How many characters of the last word stay before an answer.
        self.kept = len(_scanned(before)[0][-1])

    def quoted(self, text: str) -> str:
        """``text`` as it is to stand at the cursor. bash closes an open quote after it unless it
        ends with one; so what does, comes closed."""
        if not self.quote:
            return "".join(one if is_plain(one) else f"\\{one}" for one in text)
        written = "".join(_within(self.quote, one) for one in text)
        return written + self.quote if text.endswith(_OUTSIDE[self.quote]) else written


# What stands outside of these quotes; of ! a person's shell makes history within the double ones.
_OUTSIDE = {"'": ("'",), '"': ('"', "!")}


def _within(quote: str, one: str) -> str:
    if one in _OUTSIDE[quote]:
        return f"{quote}\\{one}{quote}"
    return f"\\{one}" if quote == '"' and one in "\\$`" else one


def _scanned(line: str) -> tuple[list[str], int, str]:
    """The words, where the last one begins in the line, and the quote that it leaves open."""
    words: list[str] = []
    text: list[str] | None = None
    quote, begins_at, is_escaped = "", len(line), False
    for place, one in enumerate(line):
        if text is None and one not in " \t\n":
            text, begins_at = [], place
        if text is None:
            continue
        if is_escaped:
            text.append(one if not quote or one in '"\\$`' else f"\\{one}")
            is_escaped = False
        elif one == "\\" and quote != "'":
            is_escaped = True
        elif quote:
            quote = _take_quoted(one, quote, text)
        elif one in " \t\n":
            words.append("".join(text))
            text, begins_at = None, len(line)
        elif one in "'\"":
            quote = one
        else:
            text.append(one)
    return [*words, "".join(text or ())], begins_at, quote


def _take_quoted(one: str, quote: str, text: list[str]) -> str:
    if one == quote:
        return ""
    text.append(one)
    return quote
