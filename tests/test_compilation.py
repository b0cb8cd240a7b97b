"""numba's cache: kept, missing, shared, stale, and on a full disk."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from lib import compilation
from lib.compilation import UNKEPT, njit, notice
from lib.records import Run
from lib.triton_cache import ensure_triton_cache
from tests.sample_chapter import PROFILES
from tests.waiting import HANG

ROOT = Path(__file__).resolve().parent.parent
SOURCE = """
from lib.compilation import njit

@njit()
def shift(x):
    return x + NUMBER
"""
Importer = Callable[[int], ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Importer:
    """Import the sample anew, as another process would, with another number in its source."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path / "cache"))

    def load(number: int) -> ModuleType:
        path = tmp_path / "sample.py"
        text = SOURCE.replace("NUMBER", str(number))
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
        spec = importlib.util.spec_from_file_location("sample", path)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def hits(function: object) -> int:
    return sum(function.stats.cache_hits.values())  # type: ignore[attr-defined]


def test_a_second_process_compiles_nothing(load: Importer) -> None:
    first, second = load(1), load(1)
    assert (first.shift(1), hits(first.shift)) == (2, 0)
    assert (second.shift(1), hits(second.shift)) == (2, 1)


def test_a_changed_module_beside_it_counts(load: Importer, tmp_path: Path) -> None:
    """A cached function holds the code of the functions that it calls, wherever they stand."""
    load(1).shift(1)
    (tmp_path / "called.py").write_text("x = 1\n")
    again = load(1)
    assert (again.shift(1), hits(again.shift)) == (2, 0)


def test_the_code_of_another_signature_is_not_taken(load: Importer, tmp_path: Path) -> None:
    """What two processes that compile at once leave: both took the first number, one wrote the index and the other the file."""
    module = load(1)
    module.shift(1)
    [data] = (tmp_path / "cache").rglob("*.1.nbc")
    integers = data.read_bytes()
    for path in (tmp_path / "cache").rglob("*.nb?"):
        path.unlink()
    other = load(1)
    assert other.shift(0.5) == 1.5
    [data] = (tmp_path / "cache").rglob("*.1.nbc")
    data.write_bytes(integers)
    victim = load(1)
    assert (victim.shift(0.5), hits(victim.shift)) == (1.5, 0)


def test_the_code_of_an_older_source_is_not_taken(load: Importer, tmp_path: Path) -> None:
    """What a process leaves that is killed between the index and the file."""
    load(1).shift(1)
    [data] = (tmp_path / "cache").rglob("*.1.nbc")
    old = data.read_bytes()
    assert load(22).shift(1) == 23
    data.write_bytes(old)
    victim = load(22)
    assert (victim.shift(1), hits(victim.shift)) == (23, 0)


def test_a_full_disk_costs_the_cache_alone(load: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compilation._CacheFile, "save", full)
    module = load(1)
    assert (module.shift(1), module.shift(0.5)) == (2, 1.5)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder for compiled code, whoever runs the tests: all of numba's places are inside a file."""
    from numba.core import caching

    class Nowhere(caching.UserWideCacheLocator):
        def get_cache_path(self) -> str:
            return str(tmp_path / "file" / "cache")

    (tmp_path / "file").touch()
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [Nowhere])


def test_without_a_folder_functions_are_compiled_and_one_line_says_so(
    nowhere: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert njit()(lambda x: x + 1)(1) == 2
    assert njit(error_model="numpy")(lambda x: x + 2)(1) == 3
    monkeypatch.setattr("lib.records.os.access", lambda *_: False)
    run = Run.start("sample", PROFILES, profile="smoke", accelerator="cpu", out_dir=tmp_path / "out")
    assert run.notices == [UNKEPT]
    assert capfd.readouterr() == (UNKEPT + "\n", "")


def test_nothing_is_said_where_a_folder_can_be_written(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("lib.records.os.access", lambda *_: False)
    assert notice() == ""
    assert Run.start("sample", PROFILES, profile="smoke", accelerator="cpu", out_dir=tmp_path).notices == []


def test_every_compiled_function_goes_through_the_one_decorator() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for folder in ("lib", "notebooks", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if "cache=True" in path.read_text(encoding="utf-8")
    ]
    assert wrong == []


TRITON = """
import os
from pathlib import Path
from lib.triton_cache import ensure_triton_cache
ensure_triton_cache()
print(os.environ.get("TRITON_CACHE_DIR", ""))
assert "TRITON_CACHE_DIR" not in os.environ or os.access(os.environ["TRITON_CACHE_DIR"], os.W_OK)
"""


@pytest.mark.parametrize("writable", [True, False])
def test_triton_has_a_folder(writable: bool, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir() if writable else home.touch()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRITON_")} | {"HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", TRITON],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    assert done.returncode == 0, done.stderr
    folder = done.stdout.strip()
    assert bool(folder) is not writable
    assert not folder or not Path(folder).exists()  # gone with the process


def test_a_folder_that_the_user_named_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", "/somewhere")
    ensure_triton_cache()
    assert os.environ["TRITON_CACHE_DIR"] == "/somewhere"
