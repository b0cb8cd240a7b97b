"""``python3 -m lib.publishing.gpu``: what ``make gpu`` starts, on a machine that may have neither ``.venv`` nor a network.

Of the wheels in ``wheels/`` those whose package is missing are installed into a folder of their own on ``PYTHONPATH``, which the next
session finds again; then this process becomes :mod:`lib.publishing.gpu_session`. Standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
WHEELS = ROOT / "wheels"
PACKAGES = ROOT / "runs" / "gpu-packages"


def missing_wheels(folder: Path) -> list[Path]:
    """The wheels in ``folder`` whose package this Python does not have."""
    installed = {item.name.lower().replace("-", "_").replace(".", "_") for item in metadata.distributions()}
    wheels = sorted(folder.glob("*.whl"))
    return [path for path in wheels if path.name.split("-")[0].lower().replace(".", "_") not in installed]


def install(wheels: list[Path], packages: Path = PACKAGES) -> Path:
    """Install wheels without a network and without looking at what they require; the same wheels are installed once.

    Returns:
        The folder, whole: an installation that was killed half-way is not taken for one.

    Raises:
        SystemExit: with pip's last line.
    """
    names = "\n".join([sys.version, *(f"{path.name} {path.stat().st_size}" for path in wheels)])
    target = packages / hashlib.sha256(names.encode()).hexdigest()[:16]
    if target.is_dir():
        return target
    packages.mkdir(parents=True, exist_ok=True)
    print(f"Installing {len(wheels)} wheels into {target} ...", flush=True)
    with tempfile.TemporaryDirectory(prefix=".installing-", dir=packages) as scratch:
        options = ["--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--disable-pip-version-check"]
        command = [sys.executable, "-m", "pip", "install", "--quiet", *options, "--target", f"{scratch}/site"]
        done = subprocess.run([*command, *map(str, wheels)], capture_output=True, text=True)
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
            raise SystemExit(f"the wheels could not be installed: {lines[-1]}")
        Path(scratch, "site").rename(target)
    return target


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
        path.insert(0, str(install(wheels)))
    os.environ["PYTHONPATH"] = os.pathsep.join(path)
    os.execv(sys.executable, [*command, "--wheels", str(options.wheels), *others])  # noqa: S606 (no shell is wanted)


if __name__ == "__main__":
    main()
