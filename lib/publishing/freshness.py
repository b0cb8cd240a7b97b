"""Is a stored notebook still what its sources would produce?

Every executed notebook records a hash of what made it (:mod:`lib.fingerprint`): the code of its source, of its chapter's package,
of the shared modules that these import, and the profile. A change of wording re-runs nothing. It also records the digest of the
run record that was stored with it, so that a page and a record of different runs, or a record edited by hand, are told apart from a pair.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat

from lib.fingerprint import ROOT, SourceError, content_hash, slugs
from lib.publishing import pairing
from lib.publishing.pairing import METADATA_KEY

RECORD_NAME = "results.json"
STAMPS = "restamped"
"""The entry of a record that :mod:`lib.publishing.restamp` adds after the run."""
UNREADABLE = "the notebook cannot be read"
HALF_STAMPED = "the record was stamped and the notebook was not"
_PATH = re.compile(
    r"(?<![\w.:/<])(/(?:home|root|Users|tmp|var|opt|work|mnt|private|content|workspace)/[\w.\-]+|[A-Z]:\\\\)"
)
_WARNING = re.compile(r"\b\w*Warning\b:")


def page_path(slug: str, profile: str) -> Path:
    """Where the executed notebook of a chapter lies: its page, or for another profile than ``default`` a page of ``book/runs``."""
    if profile == "default":
        return ROOT / "notebooks" / f"{slug}.ipynb"
    return ROOT / "book" / "runs" / slug / profile / f"{slug}.ipynb"


def record_path(slug: str, profile: str) -> Path:
    """Where the run record of a stored notebook lies."""
    return ROOT / "book" / "runs" / slug / profile / RECORD_NAME


def stored(slug: str, profile: str = "default") -> nbformat.NotebookNode | None:
    """The executed notebook of a chapter, or None where there is none yet.

    Raises:
        PairError: if the file is no notebook.
    """
    path = page_path(slug, profile)
    return pairing.read_notebook(path) if path.is_file() else None


def record_digest(record: Mapping[str, Any]) -> str:
    """SHA-256 of what a run wrote into its record: of the values, not of their layout, and without later stamps."""
    written = {name: value for name, value in record.items() if name != STAMPS}
    return hashlib.sha256(json.dumps(written, sort_keys=True).encode()).hexdigest()


def pair_fault(slug: str, profile: str) -> str | None:
    """Why a stored notebook and its record do not belong together, in a few words; None if they do or neither is there."""
    path = record_path(slug, profile)
    try:
        notebook = stored(slug, profile)
    except pairing.PairError:
        return UNREADABLE
    if notebook is None and not path.is_file():
        return None
    if notebook is None:  # a larger run may have come home without its page
        return "the record has no notebook" if profile == "default" else None
    if not path.is_file():
        return "the notebook has no record"
    mark = notebook.metadata.get(METADATA_KEY, {})
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        digest, stamps = record_digest(record), record.get(STAMPS, [])
        key = stamps[-1]["key"] if stamps else mark.get("hash")
    except (ValueError, AttributeError, KeyError, TypeError, IndexError) as error:
        return f"the record cannot be read ({type(error).__name__})"
    if mark.get("profile") != profile:
        return f"the notebook is one of profile {mark.get('profile')!r}"
    if "record" not in mark:
        return "the notebook does not say which record it belongs to"
    if mark["record"] != digest:
        return "the notebook and its record come from different runs, or the record was edited"
    if key != mark.get("hash"):
        return HALF_STAMPED
    return None


def is_fresh(slug: str) -> bool:
    """Whether the stored notebook was made by the present code, together with its record.

    Raises:
        SourceError: if a source of the chapter is not Python.
    """
    if pair_fault(slug, "default"):
        return False
    notebook = stored(slug)
    return notebook is not None and notebook.metadata[METADATA_KEY].get("hash") == content_hash(
        slug, "default"
    )


def output_texts(notebook: nbformat.NotebookNode) -> Iterator[tuple[int, str, str]]:
    """(cell number, kind of output, text) of every output; pictures are left out of the text."""
    for number, cell in enumerate(notebook.cells, start=1):
        for output in cell.get("outputs", []):
            kind = output["output_type"]
            if kind == "stream":
                yield number, output["name"], output["text"]
            elif kind == "error":
                yield number, "error", f"{output['ename']}: {output['evalue']}"
            else:
                texts = [_join(v) for mime, v in output["data"].items() if mime.startswith("text/")]
                yield number, kind, re.sub(r'src="data:[^"]*"', 'src=""', "\n".join(texts))


def _join(value: Any) -> str:
    return "".join(value) if isinstance(value, list) else str(value)


def standard_error(notebook: nbformat.NotebookNode) -> list[str]:
    """One line for each cell that left something on standard error: its number and the text, in one line."""
    texts: dict[int, str] = {}
    for number, kind, text in output_texts(notebook):
        if kind == "stderr":
            texts[number] = " ".join((texts.get(number, "") + " " + text).split())
    return [f"cell {number}: standard error: {shortened(text)}" for number, text in texts.items()]


def shortened(text: str, width: int = 300) -> str:
    """``text``, with its middle left out where it is longer than ``width``."""
    return text if len(text) <= width else f"{text[: width // 2]} … {text[-width // 2 :]}"


def output_faults(notebook: nbformat.NotebookNode) -> list[str]:
    """What must not stand on a page: errors, standard error, warnings, paths of a machine, cells that never ran."""
    faults = standard_error(notebook)
    for number, kind, text in output_texts(notebook):
        if kind == "error":
            faults.append(f"cell {number}: an output holds an error ({text})")
        if _WARNING.search(text):
            faults.append(f"cell {number}: an output holds a warning ({_WARNING.search(text)[0]})")  # type: ignore[index]
        if match := _PATH.search(text):
            faults.append(f"cell {number}: an output holds a path ({match[0]})")
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None:
            faults.append(f"cell {number}: was not executed")
    return faults


def larger_profiles(slug: str) -> list[str]:
    """The profiles beside ``default`` of which a notebook or a record is stored."""
    folder = ROOT / "book" / "runs" / slug
    found = {path.parent.name for name in (RECORD_NAME, f"{slug}.ipynb") for path in folder.glob(f"*/{name}")}
    return sorted(found - {"default"})


def faults(slug: str) -> list[str]:
    """One line for each way in which the stored notebooks of ``slug`` are not fit to be pages of the book.

    The notebook of a larger profile is that of its commit: later code does not make it stale.
    """
    refresh = f"run 'make refresh CHAPTER={slug}'"
    try:
        notebook = stored(slug)
    except pairing.PairError as error:
        return [f"{slug}: {error}"]
    if notebook is None:
        return [f"{slug}: notebooks/{slug}.ipynb is missing; {refresh}"]
    found = pairing.faults(slug, ROOT)
    fault = pair_fault(slug, "default")
    try:
        if fault:
            found.append(f"{slug}: {fault}; {refresh}")
        elif not is_fresh(slug) and not pairing.compare(slug, ROOT).asks_for_execution:
            found.append(
                f"{slug}: stored outputs are stale (code changed since they were made); {refresh}, or "
                f"'make restamp CHAPTER={slug}' where no number changes"
            )
    except SourceError as error:
        found.append(f"{slug}: {error}")
    found += [f"{slug}: {fault}; {refresh}" for fault in output_faults(notebook)]
    for profile in larger_profiles(slug):
        again = f"run 'make refresh CHAPTER={slug} PROFILE={profile}'"
        fault = pair_fault(slug, profile)
        larger = None if fault == UNREADABLE else stored(slug, profile)
        inside = output_faults(larger) if larger is not None else []
        found += [f"{slug}, profile {profile}: {words}; {again}" for words in [fault, *inside] if words]
    return found


def main() -> int:
    """Print every fault of every chapter; exit 1 if there is one."""
    found = [fault for slug in slugs() for fault in faults(slug)]
    print("\n".join(found) or f"fresh: {', '.join(slugs()) or 'no chapter yet'}")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
