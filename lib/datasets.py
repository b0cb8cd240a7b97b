"""One registry of data files, on pooch.

Each chapter lists its files in ``lib/<slug>/data_files.yml``; together they are the registry. A file is looked up in this order: the mirror named by
the environment variable ``PAPERS_DATA`` (see :func:`mirror`), the user's cache, the canonical public URL. Every file is checked by its sha256, wherever it comes from;
nothing is unpickled. ``python -m lib.datasets`` downloads what is missing (``make data``).
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pooch
import requests

from lib import network
from lib.atomic import replacing, write_text
from lib.plain_files import one_line, read_text, read_yaml
from lib.profiles import DATA_POLICIES, OneLineError, choose, nearest
from lib.typed_paths import typed_path

MIRROR_VARIABLE = "PAPERS_DATA"
PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
pooch.get_logger().setLevel("WARNING")


class DataError(OneLineError, RuntimeError):
    """A file that is unknown, out of reach, corrupt or malformed."""


class OutOfReachError(DataError):
    """A file that neither the mirror, nor the cache, nor the network gives."""


@dataclass(frozen=True)
class PublicFile:
    """A public file of another form than the one that the collection reads."""

    url: str
    sha256: str


@dataclass(frozen=True)
class DataFile:
    """Where a file comes from.

    ``url`` is the canonical public address of a file with this ``sha256``, or None where the public form is another one. Then
    ``public`` lists the public files and ``converter`` names what makes this file of them, as ``module:function``: it is called with
    the list of their paths, in order, and the path to write. Without either the file comes from a mirror only (its public
    form is a pickle, or its checksum is not known), and ``origin`` says where its content was published.

    Raises:
        ValueError: for a converter without public files, or the other way round.
    """

    url: str | None
    sha256: str
    licence: str
    citation: str
    origin: str = ""
    public: tuple[PublicFile, ...] = ()
    converter: str = ""

    def __post_init__(self) -> None:
        if bool(self.public) != bool(self.converter) or (self.public and self.url):
            raise ValueError("'public' and 'converter' belong together, in place of 'url'")

    @property
    def addresses(self) -> list[str]:
        """What has to be downloaded to have this file; empty where it comes from a mirror only."""
        return [self.url] if self.url else [part.url for part in self.public]


@cache
def chapter_files(slug: str) -> dict[str, DataFile]:
    """The data files of one chapter, from ``lib/<slug>/data_files.yml``; empty where a chapter needs none.

    Raises:
        DataError: if the file is malformed.
    """
    path = PACKAGE / slug / "data_files.yml"
    if not path.exists() and not path.is_symlink():
        return {}
    where = path.relative_to(ROOT).as_posix()
    raw = read_yaml(path, DataError, where)
    try:
        return {_registry_name(name): _data_file(**values) for name, values in (raw or {}).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{where}: {one_line(error)}") from error


def _registry_name(name: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise ValueError(f"{name!r} is not of the form <data set>/<file>")
    return name


def _data_file(public: Sequence[dict[str, str]] = (), **values: Any) -> DataFile:
    texts = [item for part in (values, *public) for item in part.items()]
    for key, value in texts:
        if not isinstance(value, str) and (key, value) != ("url", None):
            raise TypeError(f"{key}: {value!r} is not a text")
    if not re.fullmatch(r"(lib[.\w]*:\w+)?", values.get("converter", "")):
        raise ValueError(f"converter: {values['converter']!r} is not of the form lib.<module>:<function>")
    return DataFile(public=tuple(PublicFile(**part) for part in public), **values)


@cache
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


def mirror() -> Path | None:
    """The folder that ``PAPERS_DATA`` names, or None where the variable is not set, or empty.

    It is laid out as ``<data set>/<file>``. ``~`` is the home folder, and a relative path counts from the repository's root.

    Raises:
        DataError: if the variable names no such folder; the line says what it should be.
    """
    value = os.environ.get(MIRROR_VARIABLE)
    if not value:
        return None
    folder = ROOT / typed_path(MIRROR_VARIABLE, value, DataError)
    sets = sorted({name.split("/")[0] for name in registry()})
    said = f"{MIRROR_VARIABLE}={value}"
    try:
        if not folder.is_dir():
            raise DataError(
                f"{said}: {folder} is no folder; name one that holds the files as <data set>/<file>"
            )
        if any((folder / name).is_dir() for name in sets):
            return folder
        inside = [
            child for child in sorted(folder.iterdir()) if any((child / name).is_dir() for name in sets)
        ]
    except OSError as error:
        raise DataError(f"{said}: the folder cannot be read ({error.strerror})") from error
    if folder.name in sets:
        raise DataError(f"{said} is one level too deep: it should be {MIRROR_VARIABLE}={folder.parent}")
    if len(inside) == 1:
        raise DataError(f"{said} is one level too high: it should be {MIRROR_VARIABLE}={inside[0]}")
    raise DataError(f"{said}: the folder holds none of the data sets {', '.join(sets)}; name one that does")


def entry(name: str) -> DataFile:
    """The registry's entry for ``name``.

    Raises:
        DataError: for a name that the registry does not hold.
    """
    entries = registry()
    if name not in entries:
        raise DataError(f"data file {name!r} is not in the registry{nearest(name, entries)}")
    return entries[name]


def _converted_checksum(path: Path) -> Path:
    """Where the checksum of a file that a converter made lies: compression may differ between machines, content may not."""
    return path.with_name(path.name + ".sha256")


def _verify(path: Path, name: str) -> Path:
    wanted = entry(name).sha256
    try:
        found = pooch.file_hash(str(path), alg="sha256")
    except OSError as error:
        raise DataError(f"{name}: {path} cannot be read ({error.strerror})") from error
    note = _converted_checksum(path)
    if found != wanted and note.is_file() and path.is_relative_to(cache_dir()):
        wanted = read_text(note, DataError).strip()
    if found != wanted:
        raise DataError(
            f"{name}: checksum mismatch (sha256 {found[:12]}…, expected {wanted[:12]}…): the file is corrupt or truncated; "
            f"replace it"
        )
    return path


def local_path(name: str) -> Path | None:
    """The verified file in the mirror or in the cache, or None where neither has it.

    Raises:
        DataError: if the file is there but cannot be read, is no regular file, or has another checksum; if ``PAPERS_DATA`` names no mirror.
    """
    entry(name)
    for folder in (mirror(), cache_dir()):
        if folder is not None and _is_there(folder / name, name):
            return _verify(folder / name, name)
    return None


def _is_there(path: Path, name: str) -> bool:
    try:
        if path.is_file():
            return True
        other = path.exists() or path.is_symlink()
    except OSError as error:
        raise DataError(f"{name}: {path} cannot be read ({error.strerror})") from error
    if other:
        raise DataError(f"{name}: {path} is no regular file, or a link to nothing")
    return False


def download(name: str, progressbar: bool = False) -> Path:
    """Download ``name`` from its canonical URL into the cache, or make it there from its public files; atomic, checked by sha256.

    Raises:
        OutOfReachError: if a URL does not answer, or the file comes from a mirror only.
        DataError: if a checksum differs; no partial file stays behind.
    """
    item = entry(name)
    if not item.addresses:
        raise OutOfReachError(
            f"{name} comes from a mirror only: set {MIRROR_VARIABLE} to a folder that holds it (published as: {item.origin})"
        )
    silent = out_of_reach(item.addresses)
    if silent:
        raise _unreachable(name, network.describe(silent))
    target = cache_dir() / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutOfReachError(
            f"{name}: the cache {target.parent} cannot be written ({error.strerror}); set XDG_CACHE_HOME to a folder of yours, "
            f"or {MIRROR_VARIABLE} to a mirror"
        ) from error
    if item.url is not None:
        return _retrieve(name, item.url, item.sha256, target, progressbar)
    with tempfile.TemporaryDirectory() as folder:
        parts = [
            _retrieve(name, part.url, part.sha256, Path(folder) / f"{i}-{Path(part.url).name}", progressbar)
            for i, part in enumerate(item.public)
        ]
        module, function = item.converter.split(":")
        converted = Path(folder) / target.name
        getattr(importlib.import_module(module), function)(parts, converted)
        with replacing(target) as temporary:
            shutil.copyfile(converted, temporary)
            write_text(_converted_checksum(target), pooch.file_hash(str(temporary), alg="sha256"))
    return target


def _retrieve(name: str, url: str, sha256: str, target: Path, progressbar: bool) -> Path:
    try:
        pooch.retrieve(
            url,
            known_hash=f"sha256:{sha256}",
            fname=target.name,
            path=target.parent,
            progressbar=progressbar,
            downloader=pooch.HTTPDownloader(progressbar=progressbar, timeout=20),
        )
    except ValueError as error:  # pooch's word for a checksum mismatch
        raise DataError(
            f"{name}: the download's checksum differs from the registry's; nothing was kept"
        ) from error
    except requests.RequestException as error:
        network.note_silence(url, error)
        raise _unreachable(name, type(error).__name__) from error
    except OSError as error:
        raise OutOfReachError(f"{name}: cannot be stored in {target.parent} ({error.strerror})") from error
    return target


def _unreachable(name: str, reason: str) -> OutOfReachError:
    return OutOfReachError(
        f"{name} can be had neither from ${MIRROR_VARIABLE}, nor the cache, nor the network ({reason}); "
        f"run 'make data' where there is a network, or set {MIRROR_VARIABLE} to a mirror"
    )


def out_of_reach(urls: Iterable[str]) -> dict[str, str]:
    """The hosts of ``urls`` that do not answer, and why.

    All hosts of the registry are tested at once, once in a process, within :data:`lib.network.PATIENCE` seconds.
    """
    return network.silent_hosts(urls, [url for item in registry().values() for url in item.addresses])


def only_cached(source: str) -> bool:
    """Whether a model has to come from the cache of the hub: its host does not answer, or ``HF_HUB_OFFLINE`` forbids to ask.

    Where the host does not answer, the hub's library is told for the rest of the process: it asks for more than models.

    Args:
        source: hub id, or a local folder, for which nothing is asked.
    """
    if Path(source).is_dir():
        return False
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE and out_of_reach([_hub()]):
        constants.HF_HUB_OFFLINE = True
    return constants.HF_HUB_OFFLINE


def note_hub_silence(error: BaseException) -> None:
    """Let no other model wait for the hub, if it hung or was lost while a model was loaded and ``error`` came of that."""
    network.note_silence(_hub(), error)


def _hub() -> str:
    """The hub's address, or that of the mirror which the hub's own variable names."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co")


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


def reachable(names: Sequence[str]) -> bool:
    """Whether every file is in the mirror or the cache, or its hosts answer."""
    missing = [entry(name).addresses for name in names if local_path(name) is None]
    return all(missing) and not out_of_reach(url for addresses in missing for url in addresses)


def main() -> int:
    """Fetch every file of the registry that is neither in the mirror nor in the cache; files out of reach are named in one line."""
    failures, waiting = 0, []
    try:
        mirror()
    except DataError as error:
        print(error, file=sys.stderr)
        return 1
    for name, item in registry().items():
        try:
            if local_path(name) is not None:
                print(f"{name}: present")
            elif not item.addresses:
                print(f"{name}: from a mirror only (published as: {item.origin})")
            else:
                waiting.append(name)
        except DataError as error:
            failures += 1
            print(f"{name}: {error}", file=sys.stderr)
    lost: list[str] = []
    silent: dict[str, str] = {}
    for name in waiting:
        hosts = out_of_reach(entry(name).addresses)
        if hosts:
            lost.append(name)
            silent |= hosts
            continue
        try:
            print(f"{name}: downloaded to {download(name, progressbar=True)}")
        except DataError as error:
            failures += 1
            print(f"{name}: {error}", file=sys.stderr)
    if lost:
        print(f"out of reach ({network.describe(silent)}): {', '.join(lost)}", file=sys.stderr)
    return 1 if failures or lost else 0


if __name__ == "__main__":
    raise SystemExit(main())
