"""The fingerprint of code: code counts, wording does not, and every interpreter says the same."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lib import fingerprint
from lib.fingerprint import (
    ROOT,
    SourceError,
    cell_fingerprint,
    code_fingerprint,
    content_hash,
    file_fingerprint,
    imported_modules,
    notebook_cells,
    slugs,
    sources,
)

NASTY = ROOT / "tests" / "data" / "nasty_syntax.txt"
GOLDEN = "161cc23b667cb649ac59dcbc984ce7f452f0cc5eb1a1ca5ad27c7f0019308b41"
SCRIPT = """
import hashlib, json, sys
sys.path.insert(0, sys.argv[1])
sys.set_int_max_str_digits(640)
from lib.fingerprint import cell_fingerprint, code_fingerprint
for source in json.load(sys.stdin):
    print(hashlib.sha256((code_fingerprint(source) + cell_fingerprint(source)).encode()).hexdigest())
"""


def digest(source: str) -> str:
    return hashlib.sha256((code_fingerprint(source) + cell_fingerprint(source)).encode()).hexdigest()


def other_interpreters() -> dict[str, Path]:
    """Version → interpreter, of every CPython from 3.11 on that is on the path or under pyenv and is not this one."""
    candidates = [shutil.which(f"python3.{minor}") for minor in range(11, 20)]
    candidates += sorted(str(p) for p in Path.home().glob(".pyenv/versions/*/bin/python3"))
    found: dict[str, Path] = {}
    for candidate in filter(None, candidates):
        words = [candidate, "-c", "import sys; print(sys.implementation.name, *sys.version_info[:2])"]
        run = subprocess.run(words, capture_output=True, text=True, check=False)
        if match := re.fullmatch(r"cpython 3 (\d+)\n", run.stdout):
            minor = int(match[1])
            if minor >= 11 and minor != sys.version_info.minor:
                found.setdefault(f"3.{minor}", Path(candidate))
    return found


def test_every_interpreter_gives_every_source_the_same_fingerprint() -> None:
    """But for one case, which the versions themselves read differently: an escape in the format of a raw f-string."""
    others = other_interpreters()
    if not others:
        pytest.skip("no other CPython from 3.11 on: neither python3.x on the path nor a version of pyenv")
    texts = [fingerprint.read_source(path) for path in sorted((ROOT / "lib").rglob("*.py"))]
    texts += [cell for slug in slugs() for cell in notebook_cells(ROOT / "notebooks" / f"{slug}.py")]
    texts += [NASTY.read_text(encoding="utf-8"), "+".join(["x"] * 900)]
    expected = [digest(text) for text in texts]
    for version, interpreter in others.items():
        words = [str(interpreter), "-W", "error", "-I", "-c", SCRIPT, str(ROOT)]
        run = subprocess.run(words, input=json.dumps(texts), capture_output=True, text=True, check=False)
        assert run.returncode == 0, f"{version}: {run.stderr}"
        differing = [text for text, a, b in zip(texts, expected, run.stdout.split(), strict=True) if a != b]
        assert differing == [], version


def test_the_normal_form_is_what_it_was() -> None:
    """A change of the normal form makes every stored page stale: it is made on purpose, with a new value here."""
    assert digest(NASTY.read_text(encoding="utf-8")) == GOLDEN


NODES = {type(node).__name__ for node in ast.walk(fingerprint.parse(NASTY.read_text(encoding="utf-8")))}
OBSOLETE = {
    "Index",
    "ExtSlice",
    "Num",
    "Str",
    "Bytes",
    "NameConstant",
    "Ellipsis",
    "Suite",
    "AugLoad",
    "AugStore",
    "Param",
}
NEW = {"TypeAlias", "TypeVar", "ParamSpec", "TypeVarTuple", "TemplateStr", "Interpolation"}


def test_the_nasty_cases_hold_every_kind_of_node() -> None:
    kinds = {
        name
        for name, kind in vars(ast).items()
        if isinstance(kind, type)
        and issubclass(kind, ast.AST)
        and not kind.__subclasses__()
        and not name.startswith("_")  # 3.12 and later keep the obsolete ones under such names
    }
    modes = {"Interactive", "Expression", "FunctionType", "TypeIgnore"}
    assert kinds - OBSOLETE - NEW - modes - NODES == set()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 2"),
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("x = 0.1", "x = 0.10000000000000002"),
        ("x = -0.0", "x = 0.0"),
        ("x = 1j", "x = 2j"),
        ("x = 'a'", "x = b'a'"),
        ("x = 'a'", "x = 'A'"),
        ("x = None", "x = ..."),
        ("x = None", "x = 'None'"),
        ("x = '\\ud800'", "x = '\\ud801'"),
        ("x = 'é'", "x = '\\\\xe9'"),
        ("x = a + b", "x = a - b"),
        ("x = a + b + c", "x = a + (b + c)"),
        ("x = a < b", "x = a <= b"),
        ("x = -a", "x = +a"),
        ("x += 1", "x -= 1"),
        ("f(x)", "g(x)"),
        ("f(a=1)", "f(b=1)"),
        ("f(*a)", "f(**a)"),
        ("f(a)", "f(a, None)"),
        ("x.a", "x.b"),
        ("x[1:]", "x[:1]"),
        ("{**a}", "{a: a}"),
        ("def f(a=1): return a", "def f(a=2): return a"),
        ("def f(a, b=1): return a", "def f(a=1, b=1): return a"),
        ("def f(*, a, b=1): return a", "def f(*, a=1, b): return a"),
        ("def f(a, /): return a", "def f(a): return a"),
        ("@d\ndef f(): return 1", "def f(): return 1"),
        ("@d(1)\ndef f(): return 1", "@d(2)\ndef f(): return 1"),
        ("def f(): return 1", "async def f(): return 1"),
        ("class A(B): x = 1", "class A(C): x = 1"),
        ("from a import b", "from .a import b"),
        ("from a import b", "from a import b as c"),
        ("if a:\n    b\nc", "if a:\n    b\n    c"),
        ("for x in y:\n    a\nelse:\n    b", "for x in y:\n    a\nb"),
        ("try:\n    a\nexcept E:\n    b", "try:\n    a\nexcept F:\n    b"),
        ("f'{x}'", "f'{y}'"),
        ("f'{x}'", "f'{x!r}'"),
        ("f'{x}'", "f'{x:5}'"),
        ("f'{x:5}'", "f'{x:6}'"),
        ("f'{x}a'", "f'a{x}'"),
        ("f'{x}{y}'", "f'{y}{x}'"),
        ("f'{{x}}'", "f'{x}'"),
        ("[x for x in y if x]", "[x for x in y]"),
        ("match x:\n    case None: a", "match x:\n    case False: a"),
        ("match x:\n    case None: a", "match x:\n    case True: a"),
        ("x: int", "x: float"),
        ("global a", "global b"),
        ("x = 'doc'", "x = 'other'"),
        ("f('doc')", "f('other')"),
        ("return_ = lambda: 'doc'", "return_ = lambda: 'other'"),
    ],
)
def test_code_counts(one: str, other: str) -> None:
    assert code_fingerprint(one) != code_fingerprint(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 1  # why\n\n"),
        ("x = 1\r\ny = '''a\r\nb'''", "x = 1\ny = '''a\nb'''"),
        ("\ufeffx = 1", "x = 1"),
        ("x = 10", "x = 0xA"),
        ("x = 1000.0", "x = 1e3"),
        ("x = 'a' 'b'", 'x = "ab"'),
        ("x = u'a'", "x = 'a'"),
        ("x = 'é'", "x = '\\xe9'"),
        ("x = (a + b) + c", "x = a + b + c"),
        ("f(a, b)", "f(\n    a,\n    b,\n)"),
        ("f'a{x}b'", "'a' f'{x}' 'b'"),
        ("f'{x:}'", "f'{x}'"),
        ("f'{x}'", 'f"{ x }"'),
        ("with a, b: c", "with (a, b,): c"),
        ("def f(): return 1", "def f():\n    'doc'\n    return 1"),
        ("def f(): pass", "def f():\n    'doc'"),
        ("if a:\n    b\nelse:\n    'note'\n    c", "if a:\n    b\nelse:\n    c"),
        ("class A:\n    'doc'\n    x = 1\n    'its doc'", "class A: x = 1"),
        ("import a; import b", "import a\nimport b"),
    ],
)
def test_wording_and_layout_do_not(one: str, other: str) -> None:
    assert code_fingerprint(one) == code_fingerprint(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("f(x)", "f(x);"), ("f(x)  # a", "f(x);  # a"), ("x\n'shown'", "x\n'other'"), ("x\n'shown'", "x")],
)
def test_what_a_cell_shows_counts(one: str, other: str) -> None:
    assert cell_fingerprint(one) != cell_fingerprint(other)
    assert cell_fingerprint("'a'\nf(x) # ;") == cell_fingerprint("f( x )")


def test_a_long_number_and_a_deep_tree_have_a_fingerprint() -> None:
    assert code_fingerprint("x = 0x" + "f" * 9000) != code_fingerprint("x = 0x" + "f" * 8999)
    assert "BinOp" in code_fingerprint("+".join(["x"] * 900))


def test_imports_are_found_wherever_they_stand() -> None:
    source = "from lib.a import b\ndef f():\n    import lib.c.d as e\n    from . import near\n    from ..up import x\nimport os"
    assert imported_modules(source, "lib.p") == {
        *("lib", "lib.a", "lib.a.b", "lib.c", "lib.c.d"),
        *("lib.p", "lib.p.near", "lib.up", "lib.up.x"),
    }


NOTEBOOK = "# %% [markdown]\n# # Title\n\n# %%\nfrom lib.sample.method import f\n\n# %%\nf(1)\nf(2)\n"
FILES = {
    "lib/__init__.py": "",
    "lib/sample/__init__.py": '"""The sample."""\n',
    "lib/sample/method.py": "from lib import shared\n\n\ndef f(x):\n    from ..lazy.deep import g\n\n    return shared.VALUE\n",
    "lib/sample/data_files.yml": "# head\na/b.csv:\n  url: null\n  sha256: 00\n  licence: MIT\n",
    "lib/sample/reported.yml": "x: 1\n",
    "lib/sample/table.txt": "1\n",
    "lib/sample/README.md": "Wording.\n",
    "lib/shared.py": "VALUE = 1\n",
    "lib/lazy/__init__.py": "SIZE = 1\n",
    "lib/lazy/deep.py": "g = 1\n",
    "lib/unrelated.py": "VALUE = 1\n",
    "notebooks/sample.py": NOTEBOOK,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with one chapter, shared modules and one that nobody imports."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "old", "new", "changes"),
    [
        ("lib/__init__.py", "", "A = 1\n", True),
        ("lib/sample/method.py", "def f(x)", "def f(x=1)", True),
        ("lib/sample/reported.yml", "1", "2", True),
        ("lib/sample/table.txt", "1", "2", True),
        ("lib/sample/data_files.yml", "00", "01", True),
        ("lib/sample/data_files.yml", "a/b.csv", "a/c.csv", True),
        ("lib/shared.py", "1", "2", True),
        ("lib/lazy/__init__.py", "1", "2", True),
        ("lib/lazy/deep.py", "1", "2", True),
        ("notebooks/sample.py", "f(2)", "f(3)", True),
        ("notebooks/sample.py", "f(2)", "f(2);", True),
        ("notebooks/sample.py", "f(1)\n", "f(1)\n\n# %%\n", True),
        ("lib/unrelated.py", "1", "2", False),
        ("lib/sample/__init__.py", "The sample.", "Another docstring.", False),
        ("lib/sample/README.md", "Wording", "Other wording", False),
        ("lib/sample/data_files.yml", "MIT", "CC0", False),
        ("lib/sample/data_files.yml", "# head\n", "", False),
        ("lib/sample/method.py", "    return", "    # why\n    return", False),
        ("notebooks/sample.py", "# # Title", "# # Another", False),
        ("notebooks/sample.py", "f(2)", "f(2)  # wording", False),
    ],
)
def test_what_changes_the_key(root: Path, file: str, old: str, new: str, changes: bool) -> None:
    before = content_hash("sample", "default", root)
    text = (root / file).read_text()
    assert old in text
    (root / file).write_text(text.replace(old, new, 1))
    assert (content_hash("sample", "default", root) != before) == changes
    assert content_hash("sample", "gpu", root) != content_hash("sample", "default", root)


def test_the_key_does_not_depend_on_the_machine(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content_hash("sample", "default", root)
    for name in FILES:
        content = (root / name).read_bytes()
        (root / name).write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))
    (root / "lib/sample/__pycache__").mkdir()
    for name in ("__pycache__/a.nbi", ".DS_Store", "method.py~", "method.py.orig", "fast.so"):
        (root / "lib/sample" / name).write_text("left by a tool")
    order = Path.rglob
    monkeypatch.setattr(Path, "rglob", lambda self, pattern: reversed(list(order(self, pattern))))
    assert content_hash("sample", "default", root) == before


def test_data_that_is_no_text_counts_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(b"\xff\r\n")
    before = file_fingerprint(path)
    path.write_bytes(b"\xff\n")
    assert file_fingerprint(path) != before


def test_sources_are_named_once_and_in_order(root: Path) -> None:
    names = [path.relative_to(root).as_posix() for path in sources("sample", root)]
    assert names == sorted(set(FILES) - {"lib/sample/README.md", "lib/unrelated.py", "notebooks/sample.py"})


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("notebooks/sample.py", "sample.py: code cell 3 is not Python"),
        ("lib/shared.py", "lib/shared.py is not Python"),
    ],
)
def test_a_source_that_is_not_python_is_named_in_one_line(root: Path, file: str, words: str) -> None:
    with (root / file).open("a") as stream:
        stream.write("\n# %%\ndef f(:\n")
    with pytest.raises(SourceError) as caught:
        content_hash("sample", "default", root)
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)
