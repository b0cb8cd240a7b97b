"""A hash of the code behind a run: the key of stored pages, of training checkpoints and of sweeps.

What counts is code: a changed constant, operator, name, decorator or default. Comments, docstrings and layout do not, so that a
change of wording runs nothing again.

Code is compared in a normal form of its syntax tree, which is the same text under every CPython from 3.11 on. ``ast.dump`` is
not: newer versions add fields (``type_params`` in 3.12), leave out others (3.13), and put empty strings into f-strings (3.12).
Tokens are not either, since 3.12 cuts f-strings into tokens and 3.11 does not, and the layout of brackets, quotes, continued
lines and adjacent strings would count. Here a node is its class's name and those of its fields that say anything; numbers are
written exactly, texts in ASCII, and the parts of an f-string are joined first.

What else goes into the hash does not depend on the machine: paths are relative, with ``/``, in the order of their characters, and
line ends and byte order marks, which Git and editors change, do not count.

What stays out, and why: the ledger in ``book/claims`` (it judges a run's numbers and makes none; rules judge stored records again
whenever the book is built), ``requirements.lock`` (records hold the versions that ran, and ``nbval`` compares the stored outputs with the
present ones), the interpreter and the machine.

At import this module needs the standard library alone, so that another interpreter can compute the normal form without the packages.
"""

from __future__ import annotations

import ast
import hashlib
import warnings
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA_FILES = "data_files.yml"
PROSE = (".md", ".rst")
"""Suffixes of files in a package that hold wording only."""
BUILT = (".pyc", ".pyo", ".so", ".pyd", ".o", ".tmp", ".orig", ".rej", ".bak")
"""Suffixes of files that a machine or a tool leaves in a package."""


class SourceError(SyntaxError):
    """A source that is not Python; its text is one line that names the file."""

    def __str__(self) -> str:
        return str(self.msg)


def parse(source: str) -> ast.Module:
    """The syntax tree of ``source``, without the warnings that some versions print for some sources.

    Raises:
        SyntaxError: if ``source`` is not Python.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source.removeprefix("\ufeff"))


def is_wording(node: ast.AST) -> bool:
    """Whether ``node`` is a statement that does nothing: a docstring or another bare string, or ``pass``."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return isinstance(node.value.value, str)
    return isinstance(node, ast.Pass)


def normal_form(node: ast.AST) -> str:
    """``node`` as ASCII text: the same for equal code under every CPython from 3.11 on, and different for different code.

    A node is written as its class's name with its fields. A field that is None, zero or an empty list is left out, as are the
    context of a name (it follows from its place), the ``u`` before a string and type comments.
    """
    pieces: list[str] = []
    pending: list[ast.AST | str] = [node]
    while pending:  # an explicit stack: a sum of a thousand terms is a tree a thousand levels deep
        item = pending.pop()
        if isinstance(item, str):
            pieces.append(item)
        else:
            pending.extend(reversed(_parts(item)))
    return "".join(pieces)


def _parts(node: ast.AST) -> list[ast.AST | str]:
    """The text of one node, with its children still to be written."""
    if isinstance(node, ast.Constant):
        return [_constant(node.value)]
    if isinstance(node, ast.MatchSingleton):
        return [f"MatchSingleton({node.value})"]
    parts: list[ast.AST | str] = [type(node).__name__, "("]
    for name, value in ast.iter_fields(node):
        if name in ("ctx", "kind", "type_comment"):
            continue
        if isinstance(node, ast.JoinedStr):
            value = _joined(value)
        if isinstance(value, ast.JoinedStr) and name == "format_spec" and not _joined(value.values):
            continue  # an empty format is no format
        if isinstance(value, list):
            value = [item for item in value if not (isinstance(item, ast.AST) and is_wording(item))]
        if not value:
            continue
        parts.append(f"{name}=")
        if isinstance(value, list):
            parts.append("[")
            for item in value:
                parts += [item if isinstance(item, ast.AST) else ascii(item), ","]
            parts.append("]")
        else:
            parts.append(value if isinstance(value, ast.AST) else ascii(value))
        parts.append(",")
    parts.append(")")
    return parts


def _constant(value: object) -> str:
    """A constant, exactly: floating-point numbers in base 16 and integers too (Python refuses to write a long one in base 10)."""
    if isinstance(value, bool) or value is None or value is Ellipsis:
        return f"Constant({value})"
    if isinstance(value, int):
        return f"int({value:x})"
    if isinstance(value, float):
        return f"float({value.hex()})"
    if isinstance(value, complex):
        return f"complex({value.real.hex()},{value.imag.hex()})"
    return f"{type(value).__name__}({value!a})"


def _joined(values: list[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string, nested ones opened, adjacent texts joined, empty ones left out."""
    found: list[ast.expr] = []
    for value in values:
        for part in _joined(value.values) if isinstance(value, ast.JoinedStr) else [value]:
            last = found[-1] if found else None
            if not isinstance(part, ast.Constant):
                found.append(part)
            elif isinstance(last, ast.Constant):
                found[-1] = ast.Constant(last.value + part.value)  # type: ignore[operator]
            elif part.value:
                found.append(part)
    return found


@lru_cache(maxsize=1024)
def code_fingerprint(source: str) -> str:
    """The normal form of ``source``, without comments, docstrings and layout.

    Raises:
        SyntaxError: if ``source`` is not Python.
    """
    return normal_form(parse(source))


@lru_cache(maxsize=1024)
def cell_fingerprint(source: str) -> str:
    """The normal form of a notebook's cell.

    Beside the code it counts what decides what the cell shows: a last statement that is a bare string, and a closing semicolon.

    Raises:
        SyntaxError: if ``source`` is not Python.
    """
    tree = parse(source)
    if not tree.body:
        return normal_form(tree)
    last = tree.body[-1]
    shown = ascii(last.value.value) if _is_text(last) else ""  # type: ignore[attr-defined]
    lines = source.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")[(last.end_lineno or 1) - 1 :]
    rest = "\n".join([lines[0].encode()[last.end_col_offset :].decode(), *lines[1:]])
    return f"{normal_form(tree)}{shown}{';' if rest.lstrip().startswith(';') else ''}"


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and is_wording(node)


def notebook_cells(source: Path) -> list[str]:
    """The code cells of a py:percent notebook."""
    import jupytext  # here, since every worker imports this module and none reads a notebook

    notebook = jupytext.reads(read_source(source), fmt="py:percent")
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def cells_fingerprint(cells: Iterable[str], name: str) -> str:
    """The normal forms of the code cells of the notebook ``name``, a line each: where a cell ends decides what is shown.

    Raises:
        SourceError: if a cell is not plain Python.
    """
    forms = []
    for number, cell in enumerate(cells, start=1):
        try:
            forms.append(cell_fingerprint(cell))
        except (SyntaxError, ValueError) as error:
            raise SourceError(f"{name}: code cell {number} is not Python ({_reason(error)})") from error
    return "\n".join(forms)


def _reason(error: Exception) -> str:
    return str(error.msg) if isinstance(error, SyntaxError) else str(error)


def _is_for_types_only(node: ast.AST) -> bool:
    """Whether ``node`` is ``if TYPE_CHECKING:``, whose imports no run reads."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@lru_cache(maxsize=1024)
def imported_modules(source: str, package: str = "") -> frozenset[str]:
    """Names of the modules of ``lib`` that ``source`` imports when it runs, wherever the import stands, and of the packages above them.

    Args:
        package: the package that ``source`` belongs to, which relative imports count from.
    """
    found: set[str] = set()
    tree = parse(source)
    unread = {id(node) for block in ast.walk(tree) if _is_for_types_only(block) for node in block.body}  # type: ignore[attr-defined]
    for node in ast.walk(tree):
        if id(node) in unread:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    parents = {name.rsplit(".", depth)[0] for name in found for depth in range(name.count(".") + 1)}
    return frozenset(name for name in found | parents if name == "lib" or name.startswith("lib."))


def module_file(name: str, root: Path | None = None) -> Path | None:
    """The file of a module of ``lib``, or None where ``name`` is no module (but a name inside one)."""
    base = (root or ROOT).joinpath(*name.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def package_files(package: Path) -> Iterator[Path]:
    """Every file of a package that can determine a run: all but wording, hidden files and what tools leave behind."""
    for path in package.rglob("*"):
        parts = path.relative_to(package).parts
        hidden = any(part.startswith(".") or part == "__pycache__" for part in parts)
        if path.is_file() and not hidden and path.suffix not in (*PROSE, *BUILT) and path.name[-1] != "~":
            yield path


def sources(slug: str, root: Path | None = None) -> list[Path]:
    """Files that determine a run of the chapter: its package, and the shared modules that it or its notebook imports.

    Raises:
        SourceError: if one of them is not Python.
    """
    root = root or ROOT
    notebook = root / "notebooks" / f"{slug}.py"
    files = set(package_files(root / "lib" / slug))
    names = {"lib", f"lib.{slug}"}
    if notebook.is_file():
        cells = notebook_cells(notebook)
        cells_fingerprint(cells, notebook.name)
        names = names.union(*map(imported_modules, cells))
    return _closure(files, names, root)


def _closure(files: set[Path], names: set[str], root: Path) -> list[Path]:
    """``files``, the modules called ``names``, and every module of ``lib`` that these import, in the order of their paths."""
    files, pending = set(files), {path for path in files if path.suffix == ".py"}
    while pending or names:
        for source in pending:
            names = names | _module_imports(source, root)
        found = {file for name in names if (file := module_file(name, root)) and file not in files}
        files |= found
        pending, names = found, set()
    return sorted(files, key=lambda path: path.relative_to(root).as_posix())


def _module_imports(path: Path, root: Path) -> frozenset[str]:
    name = path.relative_to(root)
    try:
        return imported_modules(read_source(path), ".".join(name.parent.parts))
    except (SyntaxError, ValueError) as error:
        raise SourceError(f"{name.as_posix()} is not Python ({_reason(error)})") from error


def read_source(path: Path) -> str:
    """A text file's content, line ends as ``\\n`` and without a byte order mark."""
    return path.read_text(encoding="utf-8-sig")


def file_fingerprint(path: Path) -> str:
    """What of a file determines a run.

    Of Python its normal form; of a list of data files (``data_files.yml``) the names and checksums, since addresses, licences and
    citations change no byte of the data; of another text its lines; of other files their bytes.

    Raises:
        SourceError: if a Python file is not Python.
    """
    if path.suffix == ".py":
        try:
            return code_fingerprint(read_source(path))
        except (SyntaxError, ValueError) as error:
            raise SourceError(f"{path.name} is not Python ({_reason(error)})") from error
    try:
        text = read_source(path)
    except UnicodeDecodeError:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return _checksums(text) if path.name == DATA_FILES else ascii(text)


def _checksums(text: str) -> str:
    """Names and checksums of a list of data files; the whole text where it is no such list."""
    import yaml  # here, for interpreters without it

    try:
        return ascii(sorted((name, entry["sha256"]) for name, entry in (yaml.safe_load(text) or {}).items()))
    except (AttributeError, KeyError, TypeError, yaml.YAMLError):
        return ascii(text)


def _hash(files: Iterable[Path], root: Path) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"\n{path.relative_to(root).as_posix()}\n{file_fingerprint(path)}".encode())
    return digest.hexdigest()


def code_hash(slug: str, root: Path | None = None) -> str:
    """SHA-256 over every source file of the chapter, without its notebook and its profile.

    Raises:
        SourceError: if a source is not Python.
    """
    root = root or ROOT
    return _hash(sources(slug, root), root)


@lru_cache(maxsize=128)
def module_hash(name: str, root: Path | None = None) -> str:
    """SHA-256 over a module of a chapter, the modules of ``lib`` that it imports, and the files of its chapter that are not Python.

    Computed once in a process: the code that runs is the code that was there at the start.

    Raises:
        SourceError: if a source is not Python.
    """
    root = root or ROOT
    package = root.joinpath(*name.split(".")[:2])
    data = {path for path in package_files(package) if path.suffix != ".py"}
    return _hash(_closure(data, {name}, root), root)


def content_hash(slug: str, profile: str, root: Path | None = None) -> str:
    """SHA-256 over the profile, the notebook's code and every source file of the chapter: the key of its stored page.

    Raises:
        SourceError: if a source is not Python.
    """
    source = (root or ROOT) / "notebooks" / f"{slug}.py"
    cells = cells_fingerprint(notebook_cells(source), source.name)
    return hashlib.sha256(f"profile={profile}\n{cells}\n{code_hash(slug, root)}".encode()).hexdigest()


def slugs(root: Path | None = None) -> list[str]:
    """The chapters that have a notebook."""
    return sorted(path.stem for path in ((root or ROOT) / "notebooks").glob("*.py"))
