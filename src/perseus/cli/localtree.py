"""What a copy of local files and folders would take, looked at before the first byte goes.

Links to files are followed; links to folders are not, so that no tree is endless.
What cannot be copied is told, with the reason, and left out.
"""

import os
import stat
from dataclasses import dataclass, field

from perseus.cli.units import UsageError
from perseus.errors import NotFoundError
from perseus.shellwords import as_file, as_word

ENTRIES_MAXIMUM = 1_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """A local file or folder, and its path in the filestore."""

    local: str
    remote: str
    is_folder: bool


@dataclass(slots=True)
class Tree:
    """What will be copied, each folder before what is in it, and what will not."""

    entries: list[Entry] = field(default_factory=list)
    # Sentences: which path, and why.
    left_out: list[str] = field(default_factory=list)

    def add(self, source: str, target: str, recursive: bool) -> None:
        """Looks at what a person named; raises when it is not there."""
        if source != "-" and not os.path.exists(source):
            why = "leads nowhere" if os.path.islink(source) else "does not exist"
            raise NotFoundError(f"the local file {source} {why}", hint=f"ls -l {as_file(source)}")
        if source == "-" or not os.path.isdir(source):
            # A FIFO that is named is meant to be read: put <(make) /log.
            self._keep(source, target, is_folder=False)
            return
        if not recursive:
            raise UsageError(
                f"{source} is a folder",
                hint=f"perseus fs put -r {as_file(source)} {as_word(target)}",
            )
        self._walk(source, target)

    def _walk(self, source: str, target: str) -> None:
        waiting = [(source, target.rstrip("/"))]
        while waiting:
            folder, remote = waiting.pop()
            try:
                names = sorted(os.listdir(folder))
            except OSError as error:
                self.left_out.append(f"{folder}: {error.strerror}")
                continue
            self._keep(folder, remote or "/", is_folder=True)
            for name in names:
                path, below = os.path.join(folder, name), f"{remote}/{name}"
                reason = _why_not(path, name)
                if reason:
                    self.left_out.append(f"{_shown(path)}: {reason}")
                elif os.path.isdir(path):
                    waiting.append((path, below))
                else:
                    self._keep(path, below, is_folder=False)

    def _keep(self, local: str, remote: str, is_folder: bool) -> None:
        if len(self.entries) >= ENTRIES_MAXIMUM:
            raise UsageError(
                f"more than {ENTRIES_MAXIMUM} files and folders at once",
                hint="copy them a folder at a time, or pack them with tar",
            )
        self.entries.append(Entry(local, remote, is_folder))


def _why_not(path: str, name: str) -> str:
    """Why ``path`` cannot be copied; empty when it can."""
    try:
        name.encode()
        itself = os.lstat(path)
        status = os.stat(path)
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    except FileNotFoundError:
        return "it leads nowhere"
    except OSError as error:
        return error.strerror or str(error)
    if stat.S_ISDIR(status.st_mode):
        return "a link to a folder" if stat.S_ISLNK(itself.st_mode) else ""
    if not stat.S_ISREG(status.st_mode):
        return "neither a file nor a folder"
    return "" if os.access(path, os.R_OK) else "it may not be read"


def _shown(path: str) -> str:
    return path.encode(errors="surrogateescape").decode(errors="replace")
