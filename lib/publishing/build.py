"""Build the book again from where the last build ended, or from nothing where that would be wrong.

Sphinx keeps what it has read and builds only what changed. That is right only after a build that came to its end in the
same environment: a killed one leaves documents and a search index that later builds take for complete, a build with
warnings shows none the second time, and another version of Sphinx, of the extension or of the configuration is not noticed.
So every build begins by removing the mark of the last one, ``make html`` sets it when the build has succeeded, and where it
is missing, or says something else than this environment, everything built before is removed.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from importlib.metadata import distributions
from pathlib import Path

from lib.atomic import write_text
from lib.fingerprint import ROOT

COMPLETE = "complete"
UNDER_WAY = "under-way"
INPUTS = ("_config.yml", "_toc.yml", "book/_ext/*.py", "book/_static/*", "lib/publishing/*.py")
"""What Sphinx does not take for a part of any page, although every page depends on it."""


def environment_key(output: Path, root: Path = ROOT) -> str:
    """A digest of what a build depends on beside its pages: where it goes, interpreter, packages, configuration, extension."""
    packages = sorted({f"{package.name}=={package.version}" for package in distributions()})
    digest = hashlib.sha256("\n".join([str(output), str(root), sys.version, *packages]).encode())
    for path in sorted(path for pattern in INPUTS for path in root.glob(pattern) if path.is_file()):
        digest.update(f"\n{path.relative_to(root).as_posix()}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def begin(doctrees: Path, output: Path, root: Path = ROOT) -> bool:
    """Begin a build: take the mark away, and remove what was built before unless the mark says that it is whole and of today.

    Folders whose names are not those that ``jupyter-book`` gives (``_build/html``, ``_build/.doctrees``) are not removed.

    Returns:
        Whether everything is built from nothing.
    """
    key = environment_key(output, root)
    mark = doctrees / COMPLETE
    whole = mark.is_file() and mark.read_text(encoding="utf-8") == key
    mark.unlink(missing_ok=True)
    if not whole:
        built = [doctrees, *(output.parent / name for name in (output.name, "jupyter_execute"))]
        stale = [folder for folder in built if folder.parent.name == "_build"] + [root / "book" / "generated"]
        for folder in filter(Path.is_dir, stale):
            shutil.rmtree(folder)
    for folder in (doctrees, output):
        folder.mkdir(parents=True, exist_ok=True)
    write_text(doctrees / UNDER_WAY, key)
    return not whole
