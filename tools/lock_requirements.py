"""Write requirements/constraints.txt anew: every version that pip chooses, for Python 3.10 and for later ones.

    python3.11 tools/lock_requirements.py python3.10 python3.11

The first interpreter's choice holds below Python 3.11 (the last that NumPy 2.2 and SciPy 1.15 serve), the second's from
there on. torch stays where it is pinned here: without a pin, any package that wants torch replaces it.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TORCH = "torch==2.13.0"
EXTRAS = "eval,train,view,test"
CUDA = ("cuda-", "nvidia-", "triton")
HEADER = f"""# Every version of the environment that `make setup` makes. Written by tools/lock_requirements.py.
# CUDA's own packages are pinned by {TORCH}.
"""


def resolve(python: str) -> dict[str, str]:
    """Return name -> version of everything that pip would install into an empty environment of this interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        report = Path(folder) / "report.json"
        command = [f"{folder}/bin/python", "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--prefer-binary", "--report", report, TORCH, "setuptools"]
        command += ["-r", ROOT / "requirements/ros.txt", f"{ROOT}[{EXTRAS}]"]
        subprocess.run(command, check=True)
        found = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    pins = {item["name"].lower().replace("_", "-").replace(".", "-"): item["version"] for item in found}
    pins = {name: version.partition("+")[0] for name, version in pins.items() if not name.startswith(CUDA)}
    del pins["egopose-ros"]
    return pins


def main() -> None:
    old, new = (resolve(python) for python in sys.argv[1:3])
    lines = []
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) == new.get(name):
            lines.append(f"{name}=={new[name]}")
            continue
        if name in old:
            lines.append(f'{name}=={old[name]}; python_version < "3.11"')
        if name in new:
            lines.append(f'{name}=={new[name]}; python_version >= "3.11"')
    (ROOT / "requirements/constraints.txt").write_text(HEADER + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
