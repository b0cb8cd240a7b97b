"""``python3 -m lib.publishing.gpu``: what ``make gpu`` starts, on a machine that may have neither ``.venv`` nor a network.

Of the wheels in ``wheels/`` those whose package is missing are installed into a temporary folder on ``PYTHONPATH``; then this
process becomes :mod:`lib.publishing.gpu_session`. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
WHEELS = ROOT / "wheels"


def missing_wheels(folder: Path) -> list[Path]:
    """The wheels in ``folder`` whose package this Python does not have."""
    installed = {item.name.lower().replace("-", "_").replace(".", "_") for item in metadata.distributions()}
    wheels = sorted(folder.glob("*.whl"))
    return [path for path in wheels if path.name.split("-")[0].lower().replace(".", "_") not in installed]


def install(wheels: list[Path], target: Path) -> None:
    """Install wheels into a folder, without a network and without looking at what they require.

    Raises:
        SystemExit: with pip's last line.
    """
    options = ["--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", "--quiet", *options, "--target", str(target)]
    done = subprocess.run([*command, *map(str, wheels)], capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise SystemExit(f"the wheels could not be installed: {lines[-1]}")


def main(arguments: list[str] | None = None) -> None:
    """Install what is missing and become the session; every other option is handed on to it."""
    started = time.time()
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--wheels", type=Path, default=WHEELS)
    options, others = parser.parse_known_args(arguments)
    if options.wheels != WHEELS and not options.wheels.is_dir():
        raise SystemExit(f"--wheels {options.wheels}: there is no such folder")
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "lib.publishing.gpu_session", "--started", str(started)]
    wheels = missing_wheels(options.wheels)
    if wheels:
        site = tempfile.mkdtemp(prefix="gpu-wheels-")
        print(f"Installing {len(wheels)} wheels into a temporary folder ...", flush=True)
        install(wheels, Path(site))
        path.insert(0, site)
        command += ["--site", site]
    os.environ["PYTHONPATH"] = os.pathsep.join(path)
    os.execv(sys.executable, [*command, "--wheels", str(options.wheels), *others])  # noqa: S606 (no shell is wanted)


if __name__ == "__main__":
    main()
