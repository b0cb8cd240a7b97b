"""The archive that a GPU session brings home: a few gzipped tar files, each of which can be read alone.

Every volume begins with ``MANIFEST.json``: the machine, what was asked for, the git blob id of every source file behind a run, and
name, size, SHA-256 and volume of every file of *all* volumes, so that what is missing has a name. Reading trusts nothing else: a
member is taken only if the manifest names it, its name has one of the known forms, and its bytes have the recorded hash. Nothing is
extracted to disk and nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib.atomic import replacing
from lib.profiles import OneLineError

FORMAT = 1
MANIFEST = "MANIFEST.json"
PREFIX = "gpu-session"
VOLUME_BYTES = 16 * 2**20
VOLUMES = 8
FILE_BYTES = 64 * 2**20
TOTAL_BYTES = 512 * 2**20
HEADROOM = 2**18
"""Bytes of a volume that are kept free for the manifest and for tar's own blocks."""

_SLUG = "[a-z][a-z0-9_]{0,63}"
_NAME = re.compile(
    rf"runs/(?P<run>{_SLUG})/(?:results\.json|(?P=run)\.ipynb)|benchmarks/{_SLUG}/results\.json|logs/(?:runs|benchmarks)-{_SLUG}\.log"
)
_SHA256 = re.compile("[0-9a-f]{64}")


class ArchiveError(OneLineError, ValueError):
    """An archive that cannot be written within its limits, or one of which nothing can be read."""


@dataclass
class Contents:
    """What was read of an archive.

    Args:
        manifest: see the module's docstring.
        files: name → bytes of every intact file.
        faults: one line for each file that is missing, damaged or refused, and for each unreadable volume.
    """

    manifest: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def volume_name(number: int, volumes: int) -> str:
    """File name of one volume, counted from 1: ``gpu-session.tar.gz``, or ``gpu-session-1-of-3.tar.gz``."""
    return f"{PREFIX}.tar.gz" if volumes == 1 else f"{PREFIX}-{number}-of-{volumes}.tar.gz"


def distribute(sizes: Mapping[str, int], limit: int, volumes: int) -> tuple[list[list[str]], list[str]]:
    """Put files into volumes, each file into the first that has room, in the order given.

    Args:
        sizes: name → bytes, the most important first.
        limit: bytes of one volume. volumes: how many there may be.

    Returns:
        The names in each volume, and the names that found no room.
    """
    made: list[list[str]] = [[]]
    used, left_out = [0], []
    for name, size in sizes.items():
        place = next((i for i, taken in enumerate(used) if taken + size <= limit), None)
        if place is None and len(made) < volumes and size <= limit:
            made.append([])
            used.append(0)
            place = len(made) - 1
        if place is None:
            left_out.append(name)
        else:
            made[place].append(name)
            used[place] += size
    return made, left_out


def write_archive(
    folder: Path,
    files: Mapping[str, bytes],
    about: Mapping[str, Any],
    volume_bytes: int = VOLUME_BYTES,
    volumes: int = VOLUMES,
) -> list[Path]:
    """Write all volumes, each whole or not at all, and remove those of an earlier, other division.

    Args:
        folder: where the volumes go; made if need be.
        files: name in the archive → content, the most important first.
        about: what the manifest says besides the list of files.
        volume_bytes, volumes: limits of one volume and of their number.

    Returns:
        The volumes' paths.

    Raises:
        ArchiveError: naming the files that found no room; the others have been written.
    """
    room = volume_bytes - min(HEADROOM, volume_bytes // 4)
    sizes = {name: len(zlib.compress(content)) + 1024 for name, content in files.items()}
    parts, left_out = distribute(sizes, room, volumes)
    listed = [
        {"name": name, "bytes": len(files[name]), "sha256": hashlib.sha256(files[name]).hexdigest(), "volume": number}
        for number, names in enumerate(parts, start=1)
        for name in names
    ]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    paths, too_large = [], []
    for number, names in enumerate(parts, start=1):
        head = {"format": FORMAT, **about, "volume": number, "volumes": len(parts), "files": listed}
        head["left_out"] = left_out
        members = {MANIFEST: json.dumps(head, indent=1).encode()} | {name: files[name] for name in names}
        path = folder / volume_name(number, len(parts))
        with replacing(path) as temporary:
            temporary.write_bytes(_tar(members))
        paths.append(path)
        if path.stat().st_size > volume_bytes:
            too_large.append(path.name)
    for old in set(folder.glob(f"{PREFIX}*.tar.gz")) - set(paths):
        old.unlink()
    if left_out or too_large:
        what = ", ".join([*left_out, *too_large])
        raise ArchiveError(
            f"the archive may have {volumes} files of {volume_bytes / 2**20:g} MiB; no room for: {what}"
        )
    return paths


def _tar(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def find_volumes(path: Path) -> list[Path]:
    """The volumes that ``path`` names: all of a folder, or the file with the others of its division beside it.

    Raises:
        ArchiveError: if there is none.
    """
    folder = path if path.is_dir() else path.parent
    found = sorted(folder.glob(f"{PREFIX}*.tar.gz"))
    if path.is_file():
        division = re.fullmatch(rf"{PREFIX}-\d+-of-(\d+)\.tar\.gz", path.name)
        found = [p for p in found if p.name.endswith(f"-of-{division[1]}.tar.gz")] if division else [path]
    if not found:
        raise ArchiveError(f"{path}: there is no {PREFIX}*.tar.gz")
    return found


def read_archive(paths: Iterable[Path]) -> Contents:
    """Read what is intact; the rest is named.

    Raises:
        ArchiveError: if no volume has a readable manifest, or volumes of different sessions are mixed.
    """
    contents: Contents | None = None
    unreadable: list[str] = []
    found: dict[str, bytes] = {}
    for path in paths:
        members, fault = _read_volume(path)
        if MANIFEST not in members:
            unreadable.append(f"{path.name}: {fault or 'no manifest'}")
            continue
        manifest = _manifest(path, members.pop(MANIFEST))
        if contents is None:
            contents = Contents(manifest)
        elif _session(manifest) != _session(contents.manifest):
            raise ArchiveError(f"{path.name} belongs to another session than the volumes before it")
        if fault:
            unreadable.append(f"{path.name}: {fault}")
        found |= members
    if contents is None:
        raise ArchiveError("; ".join(unreadable) or "no archive was given")
    contents.faults += unreadable
    listed = {item["name"]: item for item in contents.manifest["files"]}
    for name, item in listed.items():
        if not _NAME.fullmatch(name):
            contents.faults.append(f"{name!r}: refused, no file of a session has such a name")
        elif name not in found:
            contents.faults.append(
                f"{name}: missing (volume {item['volume']} of {contents.manifest['volumes']})"
            )
        elif hashlib.sha256(found[name]).hexdigest() != item["sha256"] or len(found[name]) != item["bytes"]:
            contents.faults.append(f"{name}: damaged (its SHA-256 is not the manifest's)")
        else:
            contents.files[name] = found[name]
    contents.faults += [
        f"{name!r}: refused, the manifest does not name it" for name in found.keys() - listed.keys()
    ]
    return contents


def _read_volume(path: Path) -> tuple[dict[str, bytes], str]:
    """Members up to the first damage, and what stopped the reading (empty if nothing did)."""
    members: dict[str, bytes] = {}
    if not path.is_file():
        return members, "no regular file"
    total = 0
    try:
        with tarfile.open(path, mode="r|gz") as tar:
            for member in tar:
                if not member.isreg():
                    return members, f"{member.name!r} is no regular file; nothing after it was read"
                total += member.size
                if member.size > FILE_BYTES or total > TOTAL_BYTES:
                    return members, f"{member.name!r} is too large; nothing after it was read"
                stream = tar.extractfile(member)
                assert stream is not None  # a regular file
                content = stream.read()
                if len(content) != member.size:
                    return members, f"ends inside {member.name!r}"
                members[member.name] = content
    except (OSError, EOFError, tarfile.TarError, zlib.error, ValueError) as error:
        return members, f"damaged or cut off ({type(error).__name__}: {error})"
    return members, ""


def _manifest(path: Path, content: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(content)
        if manifest["format"] != FORMAT:
            raise ArchiveError(f"{path.name}: format {manifest['format']!r} is not {FORMAT}")
        wrong = [
            item["name"]
            for item in manifest["files"]
            if not (isinstance(item["name"], str) and isinstance(item["bytes"], int) and isinstance(item["volume"], int)
                    and _SHA256.fullmatch(item["sha256"]))
        ]  # fmt: skip
        if wrong or not all(isinstance(manifest[key], dict) for key in ("machine", "requests")):
            raise ValueError(f"malformed entry {wrong or 'machine, requests'}")
        manifest["volumes"], manifest["session"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, ArchiveError):
            raise
        raise ArchiveError(
            f"{path.name}: not a session's manifest ({type(error).__name__}: {error})"
        ) from error
    return manifest


def _session(manifest: Mapping[str, Any]) -> tuple[Any, ...]:
    return manifest["session"], manifest["volumes"], manifest["files"]
