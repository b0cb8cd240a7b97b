"""One registry of data files, on pooch.

A file is looked up in this order: the mirror named by the environment variable ``PAPERS_DATA`` (laid out as
``<data set>/<file>``; a relative path counts from the repository's root), the user's cache, the canonical public URL. Every file is checked by its sha256, wherever it comes from;
nothing is unpickled. ``python -m lib.datasets`` downloads what is missing (``make data``).
"""

from __future__ import annotations

import os
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pooch

from lib.profiles import DATA_POLICIES, OneLineError, choose, nearest

MIRROR_VARIABLE = "PAPERS_DATA"
ROOT = Path(__file__).resolve().parent.parent
pooch.get_logger().setLevel("WARNING")


class DataError(OneLineError, RuntimeError):
    """A file that is unknown, out of reach, corrupt or malformed."""


class OutOfReachError(DataError):
    """A file that neither the mirror, nor the cache, nor the network gives."""


@dataclass(frozen=True)
class DataFile:
    """Where a file comes from: its canonical public URL, sha256, licence and citation (a key of the bibliography or a text)."""

    url: str
    sha256: str
    licence: str
    citation: str


_CAUSALBH = "https://raw.githubusercontent.com/ZehaoJin/causalbh/c95f06582af4f19cf442f4a686e450a15db5d14c/"
_CHAR_RNN = "https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/"


def _galaxies(path: str, sha256: str) -> DataFile:
    return DataFile(_CAUSALBH + path, sha256, "CC BY 4.0", "Jin et al. 2025, doi:10.3847/1538-4357/ad9ded")


REGISTRY: dict[str, DataFile] = {
    "tinyshakespeare/input.txt": DataFile(
        _CHAR_RNN + "data/tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        "text: public domain; repository: MIT",
        "Karpathy 2015, karpathy/char-rnn",
    ),
    "smbh/SMBH_Data_03_15_24v2.csv": _galaxies(
        "SMBH_Data_03_15_24v2.csv", "ea520e08495741cc9a32c7e43ba3c34ba2a450f1ed88d3a87c0651c475a681dc"
    ),
    "smbh/causal_BH_ell_withname.csv": _galaxies(
        "R_e_data/causal_BH_ell_withname.csv",
        "a66402e2c024f2a97fc6cb7eaff548f94598346ca3f60f67da736307e0f42b52",
    ),
    "smbh/causal_BH_len_withname.csv": _galaxies(
        "R_e_data/causal_BH_len_withname.csv",
        "b60054be728412fc6c2bc4df31e383f3a5da9a1b31bb9fb36ef3b91ffdfd54dc",
    ),
    "smbh/causal_BH_spr_withname.csv": _galaxies(
        "R_e_data/causal_BH_spr_withname.csv",
        "71391f8a878cb1af89aad020901ce9eba48593bcb3a7e7917697578a6fe366d3",
    ),
    "smbh/causal_BH_ell_std_withname.csv": _galaxies(
        "R_e_data/causal_BH_ell_std_withname.csv",
        "6aa50666c48bdb834b2a7dc229959069b6f9f2351c5c2ae4407a519caf5f8eca",
    ),
    "smbh/causal_BH_len_std_withname.csv": _galaxies(
        "R_e_data/causal_BH_len_std_withname.csv",
        "075007ecf11aac3805f6ad6e5a1b8695b98a6f7733c01e1abca80eb579c9b291",
    ),
    "smbh/causal_BH_spr_std_withname.csv": _galaxies(
        "R_e_data/causal_BH_spr_std_withname.csv",
        "433e12d4adcc31e52d0ef7a9df5103c8dfc9d702007a823407f3d19e62021cc6",
    ),
    "smbh/causal_BH_ell_distance.csv": _galaxies(
        "R_e_data/causal_BH_ell_distance.csv",
        "bb93a3e5c84e7024624f3f640c8dc39dad47ecb526ab285a429565cf34cc278c",
    ),
    "smbh/causal_BH_len_distance.csv": _galaxies(
        "R_e_data/causal_BH_len_distance.csv",
        "6380453801c79b9622d41751d2c28fa370e0c4e8a748412b340379b0ebfcfcc3",
    ),
    "smbh/causal_BH_spr_distance.csv": _galaxies(
        "R_e_data/causal_BH_spr_distance.csv",
        "a12361e47951a657c81bbc893bdb89e97bbfa2b2cfa1d02b4cdce53bbbf979ec",
    ),
    "smbh/causal_BH_ell_6var.csv": _galaxies(
        "R_e_data/causal_BH_ell_6var.csv", "04a6f616b7c9a165135c81baa781d4d4a98dfa4e234d0a023976cd4ba1f1b404"
    ),
    "smbh/causal_BH_len_6var.csv": _galaxies(
        "R_e_data/causal_BH_len_6var.csv", "6d22bf46792d17d444f4d1a4a5e5dbffb33fb6dc29355ed22b8cb8d439ff8858"
    ),
    "smbh/causal_BH_spr_6var.csv": _galaxies(
        "R_e_data/causal_BH_spr_6var.csv", "db279754c5dd289d9b7d53031e993c17afc6ad367c065fbac95c40ca7ad40047"
    ),
    "smbh/sam_ell.csv": _galaxies(
        "R_e_data/sam_ell.csv", "4879d169214d4bfccca8a3f959168e97db5baa8a2e09b0595c8402891fbe8fe3"
    ),
    "smbh/sam_spr.csv": _galaxies(
        "R_e_data/sam_spr.csv", "f8a01c3d0ef0547c1b60e920362f90ed69bc5fe5334be7eea71eb919b3e60394"
    ),
    "smbh/sam_nofb.csv": _galaxies(
        "R_e_data/sam_nofb.csv", "80421864fefae535f97fa1a038827803e0cb57711d2c746caaed020bc41afa1b"
    ),
}


def cache_dir() -> Path:
    """The user's cache folder for this collection."""
    return Path(pooch.os_cache("executable-papers"))


def entry(name: str) -> DataFile:
    """The registry's entry for ``name``.

    Raises:
        DataError: for a name that the registry does not hold.
    """
    if name not in REGISTRY:
        raise DataError(f"data file {name!r} is not in the registry{nearest(name, REGISTRY)}")
    return REGISTRY[name]


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
        OutOfReachError: if the URL does not answer.
        DataError: if the checksum differs; no partial file stays behind.
    """
    item = entry(name)
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
        request = urllib.request.Request(entry(name).url, method="HEAD")  # noqa: S310 (URLs of the registry, https)
        try:
            with urllib.request.urlopen(request, timeout=timeout):  # noqa: S310
                pass
        except OSError:
            return False
    return True


def main() -> int:
    """Fetch every file of the registry that is neither in the mirror nor in the cache."""
    failures = 0
    for name in REGISTRY:
        try:
            present = local_path(name)
            print(f"{name}: {'present' if present else f'downloaded to {download(name, progressbar=True)}'}")
        except DataError as error:
            failures += 1
            print(f"{name}: {error}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
