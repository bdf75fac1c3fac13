"""The program of a run, as it goes to the nodes: a file, and the modules beside it.

As a script's neighbours can be imported, so can those of a program: what travels is the file
that has the class, and whatever of its folder it imports, modules and packages, and what
those import. They are found by reading the imports, also those within functions, and not by
running them. What is installed is not sent: it has to be installed on the nodes too. Modules
that are imported by a text (``importlib``) and files that are no Python are not seen; so the
program is loaded once away from its folder before it is sent.
"""

import ast
import io
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from perseus.algo.layout import Layout
from perseus.errors import InvalidError, TooLargeError
from perseus.sim.load import load

# As it lies beside the record of a run, and where it is unpacked.
BUNDLE = "program.zip"
FOLDER = "program"
FILES_MAXIMUM = 500
SIZE_MAXIMUM_BYTES = 16 << 20
LOAD_LIMIT_S = 60.0
_INSTALLED = "install it on the nodes, and name it as MODULE:CLASS"
_LOAD = (
    "import sys; sys.path[:] = eval(sys.argv[1]);"
    "from perseus.errors import PerseusError\n"
    "from perseus.hosting.program import loaded\n"
    "try: loaded(sys.argv[2], '', '.')\n"
    "except PerseusError as error: sys.exit(error.message)"
)

# The parts of a dotted name.
_Name = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """What goes to the nodes. Without files it is a module that is installed there."""

    # As it is loaded where ``FOLDER`` is: "program/FILE.py:CLASS", or "MODULE:CLASS".
    subject: str
    # By path relative to its folder.
    files: Mapping[str, bytes] = field(default_factory=dict)
    # The folder, here.
    base: Path = Path()

    @staticmethod
    def of(target: str) -> "Program":
        """Of what a person typed, relative to the working folder; raises InvalidError,
        TooLargeError."""
        place, _, name = target.rpartition(":")
        if place.endswith(".py") or "/" in place:
            path = Path(place).resolve()
            files = _Search(path.parent).collect([path])
            return Program(f"{FOLDER}/{path.name}:{name}", files, path.parent)
        entry = _local_module(place)
        if entry is None:
            return Program(target)
        base = Path.cwd()
        search = _Search(base)
        return Program(target, search.collect(search.files_of(tuple(place.split(".")))), base)

    def pack(self) -> bytes:
        """As a zip file, the same for the same files."""
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as bundle:
            for name, content in sorted(self.files.items()):
                bundle.writestr(zipfile.ZipInfo(name), content)
        return made.getvalue()

    def check(self) -> None:
        """Loads it from a folder that has nothing else, as a node will; raises InvalidError."""
        if not self.files:
            return
        with tempfile.TemporaryDirectory(prefix="perseus-") as folder:
            unpack(self.pack(), Path(folder))
            # Not where it comes from, unless Perseus itself is there.
            own = {self.base} - {Path(__file__).resolve().parents[2]}
            paths = [path for path in sys.path if path and Path(path).resolve() not in own]
            done = subprocess.run(
                [sys.executable, "-c", _LOAD, repr(paths), self.subject],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=LOAD_LIMIT_S,
                check=False,
            )
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise InvalidError(
                f"away from its folder, {said[-1] if said else 'it cannot be loaded'}",
                hint="what it needs goes with it when it is imported by an import statement,"
                f" and is Python; else {_INSTALLED}",
            )


def unpack(bundle: bytes, folder: Path) -> None:
    """Writes the files of a bundle, which may be anybody's, into ``folder``/FOLDER."""
    try:
        with zipfile.ZipFile(io.BytesIO(bundle)) as packed:
            entries = packed.infolist()
            _check_size(len(entries), sum(entry.file_size for entry in entries))
            for entry in entries:
                path = folder / FOLDER / _checked(entry.filename)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(packed.read(entry))
    except (zipfile.BadZipFile, RuntimeError, EOFError, zlib.error) as error:
        raise InvalidError(f"{BUNDLE} is no program: {error}") from None


def loaded(subject: str, workload: str, folder: str) -> Layout:
    """The layout of a program that is unpacked in ``folder``."""
    if subject.startswith(f"{FOLDER}/"):
        return load(f"{folder}/{subject}", workload)
    own = os.path.abspath(f"{folder}/{FOLDER}")
    if own not in sys.path:
        sys.path.insert(0, own)
    return load(subject, workload)


def _checked(name: str) -> str:
    path = PurePosixPath(name)
    is_plain = name == str(path) and not path.is_absolute() and ".." not in path.parts
    if not is_plain or path.suffix != ".py" or "\\" in name or "\0" in name:
        raise InvalidError(f"{BUNDLE} has {name!r}, which is no module of a program")
    return name


def _check_size(count: int, size_bytes: int) -> None:
    if count > FILES_MAXIMUM or size_bytes > SIZE_MAXIMUM_BYTES:
        raise TooLargeError(
            f"the program has {count} files of {size_bytes} bytes; at most {FILES_MAXIMUM}"
            f" of {SIZE_MAXIMUM_BYTES} together go to the nodes",
            hint=_INSTALLED,
        )


def _local_module(name: str) -> Path | None:
    """The file of a module that lies in the working folder, and is not installed."""
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.origin:
        return None
    base = Path.cwd().joinpath(*name.split("."))
    origin = Path(spec.origin).resolve()
    here = (base.with_suffix(".py"), base / "__init__.py")
    return origin if origin in [path.resolve() for path in here] else None


class _Search:
    """Goes from import to import within one folder."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._found: dict[str, bytes] = {}
        self._size_bytes = 0

    def collect(self, paths: list[Path]) -> dict[str, bytes]:
        """These files, and all that they import of the folder."""
        waiting = list(paths)
        while waiting:
            path = waiting.pop()
            name = path.relative_to(self._base).as_posix()
            if name in self._found:
                continue
            content = self._found[name] = _read(path)
            self._size_bytes += len(content)
            _check_size(len(self._found), self._size_bytes)
            for imported in _imports(path, content, PurePosixPath(name).parts[:-1]):
                waiting += self.files_of(imported)
        return self._found

    def files_of(self, name: _Name) -> list[Path]:
        """The modules of the folder that importing ``name`` runs: its packages, and itself."""
        found, here = [], self._base
        for part in name:
            package = here / part / "__init__.py"
            module = here / f"{part}.py"
            if package.is_file():
                found.append(package)
            elif module.is_file():
                return [*found, module]
            elif not (here / part).is_dir():
                break
            here /= part
        return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidError(f"{path} cannot be read: {error.strerror}") from None


def _imports(path: Path, content: bytes, package: _Name) -> Iterator[_Name]:
    """All names that a file imports, wherever it does; ``package`` is where it lies."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError) as error:
        raise InvalidError(f"{path} is no Python: {error}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            module = (*above, *(node.module.split(".") if node.module else ()))
            yield module
            yield from ((*module, alias.name) for alias in node.names)
