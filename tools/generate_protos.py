"""Makes src/perseus/proto/v1 from proto/perseus/v1; with --check, says whether it is fresh."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "proto"
TARGET = ROOT / "src" / "perseus" / "proto" / "v1"
HEADER = '"""Generated from proto/perseus/v1 by tools/generate_protos.py; do not edit."""\n'


def generate() -> dict[str, str]:
    """File name to content of all generated modules."""
    with tempfile.TemporaryDirectory() as folder:
        protos = sorted(str(path) for path in (SOURCE / "perseus" / "v1").glob("*.proto"))
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{SOURCE}"]
        subprocess.run(
            [*command, f"--python_out={folder}", f"--pyi_out={folder}", *protos], check=True
        )
        made = {
            path.name: _rewrite(path.read_text())
            for path in sorted(Path(folder, "perseus", "v1").iterdir())
        }
    made["__init__.py"] = HEADER
    return made


def _rewrite(text: str) -> str:
    """Moves the modules from the package perseus.v1 to perseus.proto.v1."""
    return re.sub(r"^from perseus\.v1 import", "from perseus.proto.v1 import", text, flags=re.M)


def main() -> int:
    made = generate()
    TARGET.mkdir(parents=True, exist_ok=True)
    have = {path.name: path.read_text() for path in TARGET.glob("*.py*")}
    if "--check" in sys.argv:
        if made != have:
            print("src/perseus/proto/v1 is stale: run `make proto`", file=sys.stderr)
        return int(made != have)
    for name in have.keys() - made.keys():
        (TARGET / name).unlink()
    for name, text in made.items():
        (TARGET / name).write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
