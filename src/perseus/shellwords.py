"""What stands in a command that a person is told to type: each as one word of a POSIX shell.

An error's hint is made to be typed or pasted, so a name in it with a space, a quote or a ``$``
must mean that name there, and a name can never bring a command of its own. What does not print
is written ``$'\\n'``, so that a terminal shows it and a shell takes it back.

Imports nothing: the command line's fast path uses it.
"""

_PLAIN = frozenset("@%+=:,./-_")


def as_word(value: object) -> str:
    """``value`` (text, a path, a number) as a shell takes it back as one word."""
    text = str(value)
    if text and all(map(is_plain, text)):
        return text
    if text.isprintable():
        return "'" + text.replace("'", "'\\''") + "'"
    return "$'" + "".join(map(escaped, text)) + "'"


def is_plain(character: str) -> bool:
    """Whether it means itself to a shell, wherever it stands in a word."""
    return character.isalnum() or character in _PLAIN


def as_file(path: object) -> str:
    """The path of a local file as one word, which no program takes for an option."""
    text = str(path)
    return as_word(f"./{text}" if text.startswith("-") else text)


def escaped(character: str) -> str:
    """One character as it stands between ``$'`` and ``'``."""
    if character in "\\'":
        return "\\" + character
    if character.isprintable():
        return character
    if character in "\n\t\r":
        return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}[character]
    # Bytes of a file's name that are not UTF-8 stand for themselves.
    is_byte = "\udc80" <= character <= "\udcff"
    encoded = character.encode(errors="surrogateescape" if is_byte else "surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in encoded)
