"""Makes requirements.lock and requirements-dev.lock from pyproject.toml.

Exact versions with the sha256 of every file of each release, so that one lock
serves x86_64 and aarch64. A lock names no registry, host or path: pip's own
configuration says where files come from. What is locked stays as it is; pass
``--upgrade`` to take newer releases.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = "# Made by tools/lock.py (`make lock`) from pyproject.toml; do not edit.\n"
OPTIONS = [
    *("--quiet", "--generate-hashes", "--allow-unsafe", "--strip-extras", "--no-header"),
    *("--no-annotate", "--no-emit-index-url", "--no-emit-trusted-host", "--no-emit-find-links"),
    "--no-emit-options",
]
# A lock holds pins and hashes alone; anything else could name a place.
LINE = re.compile(r"#.*|[a-z0-9][a-z0-9.-]*==[\w.+!]+ \\| {4}--hash=sha256:[0-9a-f]{64}( \\)?|")


def main() -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime = project["project"]["dependencies"]
    development = runtime + project["dependency-groups"]["dev"]
    with tempfile.TemporaryDirectory() as folder:
        compiler = _install_compiler(Path(folder))
        for name, wanted in (
            ("requirements-dev.lock", development),
            ("requirements.lock", [*runtime, "-c requirements-dev.lock"]),
        ):
            text = HEADER + _compile(compiler, Path(folder), name, wanted)
            check(name, text)
            (ROOT / name).write_text(text)
    return 0


def _install_compiler(folder: Path) -> list[str]:
    """The command of pip-tools in an environment of its own."""
    venv.create(folder / "venv", with_pip=True)
    python = str(folder / "venv" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "pip-tools"], check=True)
    return [python, "-m", "piptools", "compile", *OPTIONS]


def _compile(compiler: list[str], folder: Path, name: str, wanted: list[str]) -> str:
    (folder / "wanted.in").write_text("\n".join(wanted) + "\n")
    for lock in ROOT.glob("requirements*.lock"):
        (folder / lock.name).write_bytes(lock.read_bytes())
    upgrade = [flag for flag in sys.argv[1:] if flag == "--upgrade" and "dev" in name]
    subprocess.run(
        [*compiler, *upgrade, "--output-file", name, "wanted.in"], cwd=folder, check=True
    )
    return re.sub(r"(?m)^(#.*)?\n", "", (folder / name).read_text())


def check(name: str, text: str) -> None:
    """Ends the program when a line of a lock is more than a pin or a hash."""
    for line in text.splitlines():
        if not LINE.fullmatch(line):
            raise SystemExit(f"{name}: this line is neither a pin nor a hash: {line}")


if __name__ == "__main__":
    raise SystemExit(main())
