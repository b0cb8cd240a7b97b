"""One registry of data files, on pooch.

Each chapter lists its files in ``lib/<slug>/data_files.yml``; together they are the registry. A file is looked up in this order: the mirror named by the environment variable ``PAPERS_DATA`` (laid out as
``<data set>/<file>``; a relative path counts from the repository's root), the user's cache, the canonical public URL. Every file is checked by its sha256, wherever it comes from;
nothing is unpickled. ``python -m lib.datasets`` downloads what is missing (``make data``).
"""

from __future__ import annotations

import os
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pooch
import yaml

from lib.profiles import DATA_POLICIES, OneLineError, choose, nearest

MIRROR_VARIABLE = "PAPERS_DATA"
PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
pooch.get_logger().setLevel("WARNING")


class DataError(OneLineError, RuntimeError):
    """A file that is unknown, out of reach, corrupt or malformed."""


class OutOfReachError(DataError):
    """A file that neither the mirror, nor the cache, nor the network gives."""


@dataclass(frozen=True)
class DataFile:
    """Where a file comes from.

    ``url`` is the canonical public address of a file with this ``sha256``, or None where the public form is another one (an
    archive, a pickle): such a file comes from a mirror only, and ``origin`` says where its content was published.
    """

    url: str | None
    sha256: str
    licence: str
    citation: str
    origin: str = ""


@cache
def chapter_files(slug: str) -> dict[str, DataFile]:
    """The data files of one chapter, from ``lib/<slug>/data_files.yml``; empty where a chapter needs none.

    Raises:
        DataError: if the file is malformed.
    """
    path = PACKAGE / slug / "data_files.yml"
    if not path.is_file():
        return {}
    raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    try:
        return {name: DataFile(**fields) for name, fields in raw.items()}
    except (AttributeError, TypeError) as error:
        raise DataError(f"{path.relative_to(ROOT)}: {error}") from error


def registry() -> dict[str, DataFile]:
    """Name → entry, over all chapters.

    Raises:
        DataError: if a list is malformed, or two chapters register one name differently.
    """
    entries: dict[str, DataFile] = {}
    for path in sorted(PACKAGE.glob("*/data_files.yml")):
        for name, item in chapter_files(path.parent.name).items():
            if entries.setdefault(name, item) != item:
                raise DataError(f"{path.relative_to(ROOT)}: {name!r} is registered differently elsewhere")
    return entries


def cache_dir() -> Path:
    """The user's cache folder for this collection."""
    return Path(pooch.os_cache("executable-papers"))


def entry(name: str) -> DataFile:
    """The registry's entry for ``name``.

    Raises:
        DataError: for a name that the registry does not hold.
    """
    entries = registry()
    if name not in entries:
        raise DataError(f"data file {name!r} is not in the registry{nearest(name, entries)}")
    return entries[name]


def _verify(path: Path, name: str) -> Path:
    wanted, found = entry(name).sha256, pooch.file_hash(str(path), alg="sha256")
    if found != wanted:
        raise DataError(
            f"{name}: checksum mismatch (sha256 {found[:12]}…, expected {wanted[:12]}…): the file is corrupt or truncated; "
            f"replace it"
        )
    return path


def local_path(name: str) -> Path | None:
    """The verified file in the mirror or in the cache, or None where neither has it.

    Raises:
        DataError: if the file is there but its checksum differs.
    """
    entry(name)
    mirror = os.environ.get(MIRROR_VARIABLE)
    folders = ([ROOT / Path(mirror).expanduser()] if mirror else []) + [cache_dir()]
    for folder in folders:
        if (folder / name).is_file():
            return _verify(folder / name, name)
    return None


def download(name: str, progressbar: bool = False) -> Path:
    """Download ``name`` from its canonical URL into the cache; atomic, checked by sha256.

    Raises:
        OutOfReachError: if the URL does not answer, or the file comes from a mirror only.
        DataError: if the checksum differs; no partial file stays behind.
    """
    item = entry(name)
    if item.url is None:
        raise OutOfReachError(
            f"{name} comes from a mirror only: set {MIRROR_VARIABLE} to a folder that holds it (published as: {item.origin})"
        )
    target = cache_dir() / name
    try:
        pooch.retrieve(
            item.url,
            known_hash=f"sha256:{item.sha256}",
            fname=target.name,
            path=target.parent,
            progressbar=progressbar,
            downloader=pooch.HTTPDownloader(progressbar=progressbar, timeout=20),
        )
    except ValueError as error:  # pooch's word for a checksum mismatch
        raise DataError(
            f"{name}: the download's checksum differs from the registry's; nothing was kept"
        ) from error
    except OSError as error:  # requests' errors and the file system's
        raise OutOfReachError(
            f"{name} can be had neither from ${MIRROR_VARIABLE}, nor the cache, nor the network ({type(error).__name__}); "
            f"run 'make data' where there is a network, or set {MIRROR_VARIABLE} to a mirror"
        ) from error
    return target


def locate(names: Sequence[str], data: str = "auto") -> list[Path] | None:
    """Return the verified files called ``names``, or None where the chapter's stand-in is to be used.

    Args:
        names: names in the registry.
        data: ``auto`` (real files where they can be had, else the stand-in), ``real`` (fail instead), or ``standin``.

    Raises:
        DataError: for an unknown name, a corrupt file, or with ``data="real"`` one that cannot be had.
        ParameterError: for another value of ``data``.
    """
    choose("data", data, DATA_POLICIES)
    if data == "standin":
        for name in names:
            entry(name)
        return None
    paths = []
    for name in names:
        path = local_path(name)
        if path is None:
            try:
                path = download(name)
            except OutOfReachError:
                if data == "real":
                    raise
                return None
        paths.append(path)
    return paths


def reachable(names: Sequence[str], timeout: float = 3.0) -> bool:
    """Whether every file is in the mirror or the cache, or its host answers within ``timeout`` seconds."""
    for name in names:
        if local_path(name) is not None:
            continue
        url = entry(name).url
        if url is None:
            return False
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310 (URLs of the registry, https)
        try:
            with urllib.request.urlopen(request, timeout=timeout):  # noqa: S310
                pass
        except OSError:
            return False
    return True


def main() -> int:
    """Fetch every file of the registry that is neither in the mirror nor in the cache."""
    failures = 0
    for name, item in registry().items():
        try:
            if item.url is None and local_path(name) is None:
                print(f"{name}: from a mirror only (published as: {item.origin})")
                continue
            present = local_path(name)
            print(f"{name}: {'present' if present else f'downloaded to {download(name, progressbar=True)}'}")
        except DataError as error:
            failures += 1
            print(f"{name}: {error}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
