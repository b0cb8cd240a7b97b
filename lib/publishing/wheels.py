"""Collect what a GPU machine without a network lacks: ``make wheels``.

Into ``wheels/`` go the wheels that ``workflow/gpu.toml`` asks for, for Linux and the Python of that machine, with the versions of
``requirements.lock``, and in ``wheels/data/`` the registered data files that can be had here. The folder travels beside the working tree.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lib.atomic import replacing
from lib.datasets import DataError, local_path, registry
from lib.profiles import OneLineError
from lib.publishing.provenance import ROOT

CONFIGURATION = ROOT / "workflow" / "gpu.toml"
GLIBC = range(5, 40)
"""Minor versions of glibc 2 whose wheels run on the machine; pip compares tags literally."""


class WheelsError(OneLineError, RuntimeError):
    """Wheels that cannot be had, or a load that is too large to travel."""


@dataclass(frozen=True)
class Machine:
    """``workflow/gpu.toml``: the machine, and what is collected for it."""

    python: str
    platform: str
    needed: tuple[str, ...]
    without: tuple[str, ...]
    present: frozenset[str]
    most_mib: float
    travel_mib: float

    def markers(self) -> dict[str, str]:
        """The environment in which requirements' conditions are decided."""
        return {
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "sys_platform": "linux",
            "platform_system": "Linux",
            "platform_machine": self.platform,
            "platform_python_implementation": "CPython",
            "implementation_name": "cpython",
            "os_name": "posix",
            "extra": "",
        }


def read_machine(path: Path = CONFIGURATION) -> Machine:
    """Read ``workflow/gpu.toml``.

    Raises:
        WheelsError: if it is malformed.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        wheels = raw["wheels"]
        return Machine(
            python=raw["machine"]["python"],
            platform=raw["machine"]["platform"],
            needed=tuple(wheels["needed"]),
            without=tuple(wheels["without"]),
            present=frozenset(canonicalize_name(name) for name in wheels["present"]),
            most_mib=wheels["most_mib"],
            travel_mib=wheels["travel_mib"],
        )
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise WheelsError(f"{path.name}: {type(error).__name__}: {error}") from error


def pins(machine: Machine, lock: Path = ROOT / "requirements.lock") -> dict[str, str]:
    """Name → ``name==version`` of the lock file, as it reads on the machine."""
    found: dict[str, str] = {}
    for line in lock.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate(machine.markers()):
                name = canonicalize_name(requirement.name)
                found[name] = f"{name}{requirement.specifier}"
    return found


def lacking(machine: Machine) -> list[str]:
    """Names of the packages that are needed there, with all that they require, and that the machine does not have.

    Raises:
        WheelsError: for a package that is not installed here, so that its requirements are not known.
    """
    pending, found = [canonicalize_name(name) for name in machine.needed], set()
    while pending:
        name = pending.pop()
        if name in found or name in machine.present:
            continue
        found.add(name)
        try:
            required = metadata.requires(name) or []
        except metadata.PackageNotFoundError as error:
            raise WheelsError(f"{name} is not installed here: run 'make book' first") from error
        for line in required:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate(machine.markers()):
                pending.append(canonicalize_name(requirement.name))
    return sorted(found)


def download(requirements: Sequence[str], machine: Machine, folder: Path) -> None:
    """Fetch one wheel for each requirement from the package index.

    Raises:
        WheelsError: with pip's last line.
    """
    platforms = [f"manylinux_2_{minor}_{machine.platform}" for minor in reversed(GLIBC)]
    platforms += [f"manylinux{year}_{machine.platform}" for year in ("2014", "2010", "1")]
    options = [
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--disable-pip-version-check",
        "--implementation",
        "cp",
    ]
    options += ["--python-version", machine.python, "--dest", str(folder)]
    options += [word for name in platforms for word in ("--platform", name)]
    command = [sys.executable, "-m", "pip", "download", *options, *requirements]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no message"]
        raise WheelsError(f"pip could not fetch the wheels: {lines[-1]}")


def slim(wheel: Path, without: Sequence[str]) -> None:
    """Write a wheel anew without the folders named; wheels that have none of them stay as they are."""
    with zipfile.ZipFile(wheel) as old:
        dropped = [name for name in old.namelist() if name.startswith(tuple(without))]
        if not dropped:
            return
        [record] = [name for name in old.namelist() if re.fullmatch(r"[^/]+\.dist-info/RECORD", name)]
        rows = [
            row for row in csv.reader(io.StringIO(old.read(record).decode())) if row and row[0] not in dropped
        ]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        with replacing(wheel) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as new:
            for item in old.infolist():
                if item.filename not in dropped:
                    new.writestr(item, text.getvalue() if item.filename == record else old.read(item))


def collect_data(folder: Path) -> list[str]:
    """Copy every registered data file that the mirror or the cache has; returns the names of the others."""
    missing = []
    for name in registry():
        path = local_path(name)
        if path is None:
            missing.append(name)
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with replacing(folder / name) as temporary:
            shutil.copyfile(path, temporary)
    return missing


def tree_files(root: Path = ROOT) -> list[Path]:
    """The files of the working tree that git tracks or does not ignore.

    Raises:
        WheelsError: if this is no clone.
    """
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise WheelsError(f"{root} is no clone: git says which files travel")
    return [root / name for name in done.stdout.split("\0") if name]


def size_mib(paths: Iterable[Path]) -> float:
    """Size of all these files in MiB."""
    return sum(path.stat().st_size for path in paths if path.is_file()) / 2**20


def check_sizes(sizes: Mapping[str, float], machine: Machine) -> None:
    """Check what travels against the limits.

    Args:
        sizes: MiB of ``tree``, ``data`` and ``wheels``.

    Raises:
        WheelsError: naming the sizes.
    """
    text = ", ".join(f"{name} {size:.1f}" for name, size in sizes.items())
    if sizes["wheels"] > machine.most_mib:
        raise WheelsError(f"the wheels are larger than {machine.most_mib} MiB ({text} MiB)")
    if sum(sizes.values()) > machine.travel_mib:
        raise WheelsError(
            f"tree, data and wheels are larger than {machine.travel_mib} MiB together ({text} MiB)"
        )


def collect(target: Path, machine: Machine) -> dict[str, float]:
    """Collect wheels and data into ``target``, in place of what was collected before.

    Returns:
        MiB of ``tree``, ``data`` and ``wheels``.

    Raises:
        WheelsError, DataError: one line; the folder is as it was then.
    """
    pinned = pins(machine)
    names = lacking(machine)
    unpinned = [name for name in names if name not in pinned]
    if unpinned:
        raise WheelsError(f"requirements.lock has no version of {', '.join(unpinned)}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".wheels-", dir=target.parent) as scratch:
        folder = Path(scratch) / "wheels"
        folder.mkdir()
        download([pinned[name] for name in names], machine, folder)
        for wheel in folder.glob("*.whl"):
            slim(wheel, machine.without)
        missing = collect_data(folder / "data")
        sizes = {
            "tree": size_mib(tree_files()),
            "data": size_mib((folder / "data").rglob("*")),
            "wheels": size_mib(folder.glob("*.whl")),
        }
        check_sizes(sizes, machine)
        shutil.rmtree(target, ignore_errors=True)
        folder.replace(target)
    for name in missing:
        print(
            f"{name}: neither in PAPERS_DATA nor in the cache; the run that reads it takes another set or the stand-in"
        )
    return sizes


def main(arguments: list[str] | None = None) -> int:
    """Command line; prints what travels."""
    parser = argparse.ArgumentParser(
        description="Collect wheels and data for a GPU machine without a network."
    )
    parser.add_argument("--out", type=Path, default=ROOT / "wheels")
    options = parser.parse_args(arguments)
    try:
        sizes = collect(options.out.resolve(), read_machine())
    except (WheelsError, DataError) as error:
        print(error, file=sys.stderr)
        return 1
    text = ", ".join(f"{name} {size:.1f}" for name, size in sizes.items())
    print(
        f"{options.out}: {len(list(options.out.glob('*.whl')))} wheels; in MiB: {text}; together {sum(sizes.values()):.1f}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
