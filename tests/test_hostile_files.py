"""Every loader is offered every hostile file: no code runs, no memory is taken on a claim, and what is refused is refused in one line.

A loader that reads files from outside belongs into :data:`LOADERS`, with the suffix that its files bear and what of the hostile files it may
take, because it is harmless there: a reader of text takes any text.
"""

from __future__ import annotations

import re
import sys
import tracemalloc
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

from lib import agreement, datasets, hub, numeric_files, plain_files
from lib.adaptive_teachers import biochemical_tasks
from lib.adaptive_teachers.sequence_space import SequenceSpace
from lib.checkpoints import is_whole
from lib.claims import ledger, read_ledger
from lib.compositionality import experiments as compositionality
from lib.compositionality.grammar import Lexicon, load_prompts
from lib.compositionality.kolmogorov import read_official_sizes
from lib.datasets import DataError
from lib.ddpp import gb1, hub_experiments, hub_models, mnist, sentences
from lib.fingerprint import ROOT
from lib.minrnn.language_model import CharacterText
from lib.profiles import OneLineError
from lib.publishing import gpu_archive, gpu_import, pairing, scorecard
from lib.publishing.pages.benchmarks import read_benchmark
from lib.random_streams import stream
from lib.records import free_record_path
from lib.smbh import galaxies
from lib.tiny_shakespeare import read_plays
from tests.hostile_files import BOMB, hostile_files, pickled, unsafe_load, unsafe_yaml, yaml_call

sys.path.insert(0, str(ROOT / "workflow"))

from collect import read_record
from sweep import fingerprint

SMALL = 2**20
"""Bytes that a file may hold in these tests, so that a bomb of :data:`BOMB` is one."""

MEMORY = 40 * 2**20
"""Bytes that a loader may take: the decompression of a stream unpacks a thousand times the block that it reads."""


def of_registry(path: Path) -> object:
    """The list of a chapter's data files."""
    folder = path.parent / "lib" / "malicious"
    folder.mkdir(parents=True, exist_ok=True)
    listed = folder / "data_files.yml"
    listed.unlink(missing_ok=True)
    listed.symlink_to(path)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(datasets, "PACKAGE", folder.parent)
        patched.setattr(datasets, "ROOT", path.parent)
        return datasets.chapter_files.__wrapped__("malicious")


def of_mirror(path: Path) -> object:
    """A file that a mirror gives under a registered name."""
    name = f"sample/{path.name}"
    target = path.parent / "mirror" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(path)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            datasets, "registry", lambda: {name: datasets.DataFile(None, "0" * 64, "CC0", "nobody")}
        )
        patched.setattr(datasets, "cache_dir", lambda: path.parent / "cache")
        patched.setenv(datasets.MIRROR_VARIABLE, str(path.parent / "mirror"))
        return datasets.locate([name])


def of_book(path: Path) -> object:
    """The record in the book that a run is compared with."""
    folder = path.parent / "book" / path.stem / "default"
    folder.mkdir(parents=True)
    (folder / "results.json").symlink_to(path)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(agreement.BOOK_RECORDS_VARIABLE, str(path.parent / "book"))
        return agreement.book_record(path.stem, "default")


def of_sweep(path: Path) -> object:
    """The record of a sweep's run."""
    folder = path.parent / "toy" / "smoke" / path.stem / "seed0"
    folder.mkdir(parents=True)
    (folder / "results.json").symlink_to(path)
    return read_record(folder / "results.json")


def beside_a_record(path: Path) -> object:
    """A file where a run's record is to go; it is renamed and not lost."""
    folder = path.parent / "out" / path.stem
    folder.mkdir(parents=True)
    (folder / "results.json").symlink_to(path)
    return free_record_path(folder, {"notebook": None, "run_id": "0" * 32})


def of_hub(name: str, read: Callable[[Path], object]) -> Callable[[Path], object]:
    """A file of a model's folder."""

    def load(path: Path) -> object:
        folder = path.parent / "hub" / path.stem
        folder.mkdir(parents=True)
        (folder / name).symlink_to(path)
        return read(folder)

    return load


def mdlm(folder: Path) -> object:
    from safetensors.torch import save_file

    save_file({}, str(folder / "model.safetensors"))
    return hub_models.load_mdlm(str(folder), 4, "cpu")  # type: ignore[arg-type]


def reviews(path: Path) -> object:
    tokenizer = SimpleNamespace(eos_token_id=0)
    return hub_experiments.encode_reviews(
        path, type("T", (), {"__call__": lambda *_: {"input_ids": [1]}, **vars(tokenizer)})(), 4
    )


def of_protein(path: Path) -> object:
    """A structure; without biotite its text alone is read, and refused for want of biotite."""
    try:
        return hub_experiments.read_target(path)
    except DataError as error:
        if "pip install biotite" in str(error):
            raise DataError(f"{path.name}: {error}") from error
        raise


def of_pair(path: Path) -> object:
    return pairing.read_notebook(path) if path.exists() or path.name.startswith("link-to-itself") else None


@cache
def sample() -> galaxies.Sample:
    return galaxies.simulate(stream(0, "galaxies").numpy()).base["ell"]


def with_errors(path: Path) -> object:
    return galaxies.with_errors(sample(), path)


def converted(convert: Callable[[list[Path], Path], None], parts: int) -> Callable[[Path], object]:
    """A converter, which leaves nothing where it refuses."""

    def load(path: Path) -> object:
        target = path.parent / "converted.npz"
        try:
            convert([path] * parts, target)
        finally:
            assert not list(path.parent.glob("*converted*"))
        return target

    return load


TEXT = r"table|ragged|json|yaml|notebook|script|page|escapes|one long line|pickle of protocol 0|pickle after a byte"
TAKEN_ARRAYS = (
    "npz that lies about its packed size|npz that claims 65,535|zip of nothing|pickle beside an array"
)
LOADERS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "claims.read_ledger": (".yml", read_ledger, "nothing"),
    "scorecard.read_record": (".json", lambda p: scorecard.read_record(p, ledger("minrnn")), "nothing"),
    "benchmarks.read_benchmark": (".json", read_benchmark, "nothing"),
    "plain_files.read_bytes": (".txt", lambda p: plain_files.read_bytes(p, DataError), ".*"),
    "plain_files.read_text": (".txt", lambda p: plain_files.read_text(p, DataError), TEXT),
    "plain_files.read_json": (".json", lambda p: plain_files.read_json(p, DataError), "json|notebook"),
    "plain_files.read_yaml": (".yml", lambda p: plain_files.read_yaml(p, DataError), TEXT),
    "plain_files.read_gzip": (
        ".gz",
        lambda p: plain_files.read_gzip(p, DataError),
        "gzip|pickle in gzip|idx|tar",
    ),
    "numeric_files.read_table": (".csv", lambda p: numeric_files.read_table(p, DataError), TEXT),
    "numeric_files.read_rows": (".csv", lambda p: numeric_files.read_rows(p, DataError), TEXT),
    "numeric_files.read_arrays": (
        ".npz",
        lambda p: numeric_files.read_arrays(p, DataError),
        TAKEN_ARRAYS,
    ),
    "datasets.chapter_files": (".yml", of_registry, "table of nothing|table of empty lines|nothing at all"),
    "datasets.locate": (".csv", of_mirror, "nothing at all"),
    "agreement.book_record": (".json", of_book, "json|notebook|folder|pipe|link|nothing at all"),
    "records.free_record_path": (".json", beside_a_record, ".*"),
    "checkpoints.is_whole": (".ckpt", lambda p: p.is_file() and is_whole(p), ".*"),
    "galaxies.read_table": (".csv", lambda p: galaxies.read_table(p, galaxies.BASE), "nothing"),
    "galaxies.with_errors": (".csv", with_errors, "nothing"),
    "galaxies.read_catalogue": (".csv", galaxies.read_catalogue, "nothing"),
    "tiny_shakespeare.read_plays": (".txt", lambda p: read_plays(p, 2), TEXT),
    "language_model.CharacterText": (".txt", CharacterText.from_file, TEXT),
    "grammar.Lexicon": (".json", Lexicon.from_file, "nothing"),
    "grammar.load_prompts": (".npz", load_prompts, "nothing"),
    "kolmogorov.read_official_sizes": (".csv", read_official_sizes, "table with formulas"),
    "experiments.read_zero_shot": (".csv", compositionality.read_zero_shot, "nothing"),
    "experiments.read_pile": (".gz", compositionality.read_pile, "gzip with a name that climbs"),
    "gb1.read_landscape": (".npz", gb1.read_landscape, "nothing"),
    "gb1.convert_flip": (".zip", converted(gb1.convert_flip, 1), "nothing"),
    "mnist.read_idx": (".gz", mnist.read_idx, "nothing"),
    "mnist.convert_idx": (".gz", converted(mnist.convert_idx, 2), "nothing"),
    "mnist.read_npz": (".npz", mnist.read_npz, "nothing"),
    "sentences.read_sentences": (".csv", sentences.read_sentences, "nothing"),
    "hub.read_safetensors": (
        ".bin",
        of_hub("model.safetensors", hub.read_safetensors),
        "nothing",
    ),
    "hub_models.load_mdlm": (".json", of_hub("config.json", mdlm), "nothing"),
    "hub_experiments.read_target": (".pdb", of_protein, "nothing"),
    "hub_experiments.encode_reviews": (".txt", reviews, TEXT),
    "biochemical_tasks.read_arrays": (
        ".npz",
        lambda p: biochemical_tasks.read_arrays(p, {"x": None}),
        TAKEN_ARRAYS,
    ),
    "biochemical_tasks.read_seh_trees": (
        ".npz",
        lambda p: biochemical_tasks.read_seh_trees(p, SequenceSpace(2, 2)),
        "nothing",
    ),
    "biochemical_tasks.read_rna_constants": (
        ".csv",
        lambda p: biochemical_tasks.read_rna_constants(p, 1.0),
        "nothing",
    ),
    "gpu_archive.read_archive": (".tar.gz", lambda p: gpu_archive.read_archive([p]), "nothing"),
    "gpu_import.shown_notebook": (
        ".ipynb",
        lambda p: gpu_import.shown_notebook(p.name, plain_files.read_bytes(p, DataError)),
        "nothing",
    ),
    "pairing.read_notebook": (".ipynb", of_pair, "notebook that calls|nothing at all|link to nothing"),
    "collect.read_record": (".json", of_sweep, "nothing"),
    "sweep.fingerprint": (".ipynb", lambda p: fingerprint.__wrapped__(p, "smoke"), "notebook that calls"),
}


NAMED_BY_THE_LOADER = ("results.json", "data_files.yml", "model.safetensors", "config.json")
"""Files that a loader looks for under their own names; here they are links to the hostile ones."""


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cage") / "canary"


def test_a_careless_loader_would_run_their_code(canary: Path) -> None:
    for protocol in (0, 4):
        unsafe_load(pickled(canary, protocol))
        canary.rmdir()
    unsafe_yaml(yaml_call(canary))
    canary.rmdir()


def test_there_are_more_hostile_files_than_were_offered_once(tmp_path: Path, canary: Path) -> None:
    assert len(list(hostile_files(tmp_path, "", canary))) > 75


@pytest.mark.parametrize("loader", LOADERS)
def test_hostile_files_are_refused_in_one_line(
    loader: str, tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (plain_files, numeric_files, gb1):
        monkeypatch.setattr(module, "LARGEST", SMALL)
    monkeypatch.setattr(gpu_archive, "FILE_BYTES", SMALL)
    assert MEMORY < BOMB
    suffix, load, taken = LOADERS[loader]
    faults = []
    for name, path in hostile_files(tmp_path, suffix, canary):
        tracemalloc.start()
        try:
            load(path)
        except OneLineError as error:
            message = str(error)
            named = any(word in message for word in (path.stem, *NAMED_BY_THE_LOADER))
            if "\n" in message or len(message) > 600 or not named:
                faults.append(f"{name}: {message[:300]!r} is not one clear line that names the file")
        except BaseException as error:
            faults.append(f"{name}: {type(error).__name__}: {error}"[:300])
        else:
            if not re.match(taken, name):
                faults.append(f"{name}: taken")
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        if peak > MEMORY:
            faults.append(f"{name}: {peak >> 20} MiB were taken")
        if canary.exists():
            faults.append(f"{name}: its code has run")
            canary.rmdir()
    assert not faults, "\n".join(faults)
