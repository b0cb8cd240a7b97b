"""Which statements differ between two versions of a chapter's sources, and whether a measured run has shown their effect.

Statements are compared in the normal form of :mod:`lib.fingerprint`, so that comments, docstrings, layout, the order of definitions
and a definition that moved into another file are no changes. A run shows a statement if it has executed it, by the lines
that coverage.py saw; and it shows nothing where lines do not tell:

- the condition of an ``if`` or ``while`` has to have gone both ways, since another profile may take the other one;
- a conditional expression, a lambda and a condition inside a comprehension are not seen, nor is code that is compiled (numba, Triton,
  ``torch.compile``), whose lines the interpreter never executes;
- a changed signature or decorator is shown where its function was entered;
- what runs at import (a constant, an import, a field, the default of an argument) has run, but counts only if each statement that reads its
  name, directly or through other names bound at import, was executed too; a changed mapping with several entries is not shown, since a run
  may have read another entry.

What no measurement of lines can tell remains: the same statement with other values in another profile.
"""

from __future__ import annotations

import ast
import copy
import difflib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from lib.fingerprint import (
    file_fingerprint,
    is_wording,
    normal_form,
    notebook_cells,
    parse,
    read_source,
    sources,
)

BODIES = ("body", "handlers", "orelse", "finalbody", "cases")
"""Fields that hold the statements inside a statement."""
Function = (ast.FunctionDef, ast.AsyncFunctionDef)
Definition = (*Function, ast.ClassDef)
Shown = Literal["executed", "imported", "entered", "both ways", "never"]


@dataclass(frozen=True)
class Statement:
    """One statement without the statements inside it.

    Attributes:
        file: path from the repository's root, with ``/``.
        lines: first and last line.
        form: its normal form with its place among the statements around it.
        shown: what a run has to have done to show its effect.
        inside: lines of the function's body that has to be entered; empty elsewhere.
        binds: names that it binds at import.
        reads: names and attributes that it mentions.
        chooses: whether it holds a mapping with several entries.
    """

    file: str
    lines: range
    form: str
    shown: Shown
    inside: range
    binds: frozenset[str]
    reads: frozenset[str]
    chooses: bool

    @property
    def place(self) -> str:
        """File and line, as an editor takes it."""
        return f"{self.file}:{self.lines[0]}"


@dataclass
class Trace:
    """What coverage.py saw of a run: file → executed lines, and file → steps from line to line."""

    lines: dict[str, set[int]] = field(default_factory=dict)
    steps: dict[str, set[tuple[int, int]]] = field(default_factory=dict)

    def shows(self, statement: Statement) -> bool:
        """Whether the run has shown the effect of ``statement`` itself; of a notebook it has executed what stands outermost."""
        if statement.file.startswith("notebooks/"):
            return statement.shown == "imported"
        lines = self.lines.get(statement.file, set())
        if statement.shown == "imported":
            return bool(lines)
        if statement.shown == "entered":
            return not lines.isdisjoint(statement.inside)
        if statement.shown == "both ways":
            steps = self.steps.get(statement.file, set())
            return len({to for at, to in steps if at in statement.lines and to not in statement.lines}) > 1
        return statement.shown == "executed" and not lines.isdisjoint(statement.lines)


@dataclass(frozen=True)
class Changes:
    """What differs between two versions of a chapter's sources.

    Attributes:
        files: sources that differ or exist in one version only, wording left aside.
        data: those of them that are no Python; no measurement tells what of them a run has used.
        removed, added: statements that only the old or only the new version has.
        old, new: all statements of each version.
    """

    files: list[str]
    data: list[str]
    removed: list[Statement]
    added: list[Statement]
    old: list[Statement]
    new: list[Statement]

    def unshown(self, before: Trace, after: Trace) -> list[str]:
        """Places of changed statements whose effect the two runs have not shown, each with the reason."""
        found = [f"{name}: not Python, and what a run reads of it cannot be measured" for name in self.data]
        for statements, every, trace, version in (
            (self.removed, self.old, before, "before"),
            (self.added, self.new, after, "after"),
        ):
            for statement in statements:
                where = f"{statement.place} ({version})"
                if not trace.shows(statement):
                    found.append(f"{where}: {_REASONS[statement.shown]}")
                elif statement.chooses and statement.shown == "imported":
                    found.append(f"{where}: {_REASONS['never']}")
                elif reader := next((s for s in _readers(statement, every) if not trace.shows(s)), None):
                    found.append(
                        f"{where}: what it binds is read at {reader.place}, which smoke does not show"
                    )
        return found


def _readers(statement: Statement, every: list[Statement]) -> list[Statement]:
    """Statements that read what ``statement`` binds at import, also through what others bind of it."""
    names, found = set(statement.binds), set[Statement]()
    while more := [s for s in every if s.reads & names and s not in found and s is not statement]:
        found |= set(more)
        names |= {name for s in more for name in s.binds}
    return sorted(found, key=lambda s: (s.file, s.lines[0]))


_REASONS: dict[Shown, str] = {
    "executed": "smoke does not execute it",
    "imported": "smoke does not import it",
    "entered": "smoke does not call it",
    "both ways": "smoke takes one branch only",
    "never": "what smoke executes of it cannot be measured by lines",
}


def changes(slug: str, before: Path, after: Path) -> Changes:
    """Compare the sources of a chapter in two repositories.

    Raises:
        SourceError: if a Python source is not Python.
    """
    old, new = ({p.relative_to(root).as_posix(): p for p in sources(slug, root)} for root in (before, after))
    differing = [
        name
        for name in sorted({*old, *new})
        if name not in old or name not in new or file_fingerprint(old[name]) != file_fingerprint(new[name])
    ]
    trees = [
        {name: parse(read_source(p)) for name, p in of.items() if p.suffix == ".py"} for of in (old, new)
    ]
    unique = _defined_once(trees[0]) & _defined_once(trees[1])
    blocks = [
        {block: list(items) for name, tree in of.items() for block, items in _blocks(name, tree, unique)}
        for of in trees
    ]
    removed, added = _difference(*blocks)
    return Changes(
        files=differing,
        data=[name for name in differing if not name.endswith(".py")],
        removed=removed,
        added=added,
        old=[s for items in blocks[0].values() for s in items] + _notebook_statements(slug, before),
        new=[s for items in blocks[1].values() for s in items] + _notebook_statements(slug, after),
    )


def _notebook_statements(slug: str, root: Path) -> list[Statement]:
    """The statements of the notebook's code cells, which read what the sources bind."""
    cells = enumerate(notebook_cells(root / "notebooks" / f"{slug}.py"), start=1)
    return [
        statement
        for number, cell in cells
        for statement in _Reader(f"notebooks/{slug}.py, code cell {number}", set()).importing(
            parse(cell).body, ""
        )
    ]


Block = tuple[str, str]
"""File and qualified name of a definition; the name is empty for what stands outside of definitions."""


def _difference(
    old: dict[Block, list[Statement]], new: dict[Block, list[Statement]]
) -> tuple[list[Statement], list[Statement]]:
    """Statements of ``old`` that ``new`` lacks, and the other way round."""
    pairs = [(old[block], new[block]) for block in old.keys() & new.keys()]
    gone = {block: old[block] for block in old.keys() - new.keys()}
    come = {block: new[block] for block in new.keys() - old.keys()}
    for block, items in sorted(gone.items()):
        moved = [b for b in come if b[1] and b[1] == block[1] and _forms(come[b]) == _forms(items)]
        if moved:
            come.pop(moved[0])
        else:
            pairs.append((_whole(items), []))
    pairs += [([], _whole(items)) for items in come.values()]
    removed, added = [], []
    for one, other in pairs:
        matcher = difflib.SequenceMatcher(None, _forms(one), _forms(other), autojunk=False)
        for tag, i, j, k, m in matcher.get_opcodes():
            if tag != "equal":
                removed += one[i:j]
                added += other[k:m]
    return _without_moved(removed, added, [*old.values()], [*new.values()])


def _whole(items: list[Statement]) -> list[Statement]:
    """A definition that only one version has: who calls a function has changed with it."""
    return [replace(s, binds=frozenset()) if s.shown in ("entered", "never") else s for s in items]


def _forms(statements: list[Statement]) -> list[str]:
    return [statement.form for statement in statements]


def _without_moved(
    removed: list[Statement], added: list[Statement], *versions: list[list[Statement]]
) -> tuple[list[Statement], list[Statement]]:
    """Leave out what was moved at import level: the same statement gone and come, whose names are bound nowhere else."""
    bound = [
        Counter(n for items in version for s in items for n in {(s.file, b) for b in s.binds})
        for version in versions
    ]

    def once(s: Statement, counts: Counter[tuple[str, str]]) -> bool:
        outermost = s.shown == "imported" and s.form.startswith(":")
        return outermost and bool(s.binds) and all(counts[s.file, name] == 1 for name in s.binds)

    common = Counter(s.form for s in removed if once(s, bound[0])) & Counter(
        s.form for s in added if once(s, bound[1])
    )
    results = []
    for statements, counts in ((removed, bound[0]), (added, bound[1])):
        left, kept = common.copy(), []
        for s in statements:
            if once(s, counts) and left[s.form]:
                left[s.form] -= 1
            else:
                kept.append(s)
        results.append(sorted(kept, key=lambda s: (s.file, s.lines[0])))
    return results[0], results[1]


def _defined_once(trees: dict[str, ast.Module]) -> set[str]:
    """Names that exactly one of the modules defines outside of definitions."""
    count: Counter[str] = Counter()
    for tree in trees.values():
        names = set()
        for node in tree.body:
            names |= {node.name} if isinstance(node, Definition) else _stored(node)
        count.update(names)
    return {name for name, n in count.items() if n == 1}


def _stored(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}


def _blocks(file: str, tree: ast.Module, unique: set[str]) -> Iterator[tuple[Block, Iterator[Statement]]]:
    """Every definition of a module with its statements; one that stands twice is numbered."""
    seen: Counter[str] = Counter()
    reader = _Reader(file, unique)

    def walk(body: list[ast.stmt], name: str) -> Iterator[tuple[Block, Iterator[Statement]]]:
        for node in body:
            if not isinstance(node, Definition):
                continue
            inner = f"{name}{node.name}"
            seen[inner] += 1
            block = (file, inner if seen[inner] == 1 else f"{inner}#{seen[inner]}")
            if isinstance(node, ast.ClassDef):
                yield block, reader.importing([node], "")
                yield from walk(node.body, f"{inner}.")
            else:
                yield block, reader.function(node, "")

    outside = [node for node in tree.body if not isinstance(node, Definition)]
    yield (file, ""), reader.importing(outside, "")
    yield from walk(tree.body, "")


@dataclass(frozen=True)
class _Reader:
    """Cuts the code of one file into statements."""

    file: str
    unique: set[str]

    def importing(self, nodes: Iterable[ast.AST], place: str) -> Iterator[Statement]:
        """Statements that run at import, without the functions and classes that stand among them as definitions of their own."""
        for node in nodes:
            if is_wording(node) or _never_imported(node):
                continue
            always = not place.strip("C")  # not under an if or a try
            yield from self.one(node, place, "imported" if always else "executed", range(0), binds=True)
            for branch, children in _inner(node):
                inner = f"{place}C" if isinstance(node, ast.ClassDef) else f"{place}{branch[0]}"
                rest = [
                    c for c in children if not (isinstance(node, ast.ClassDef) and isinstance(c, Definition))
                ]
                for child in rest:
                    if isinstance(child, Function):
                        yield from self.function(child, inner)
                    else:
                        yield from self.importing([child], inner)

    def function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, place: str) -> Iterator[Statement]:
        """A function and all statements inside it."""
        body = range(node.body[0].lineno, (node.end_lineno or node.body[-1].lineno) + 1)
        alone = body[0] > node.lineno
        yield from self.one(node, place, "entered" if alone else "never", body, binds=True)
        yield from self.inside(node, f"{place}b", body)

    def inside(self, node: ast.AST, place: str, body: range) -> Iterator[Statement]:
        """The statements inside a statement of a function, ``body`` being the function's lines."""
        for branch, children in _inner(node):
            for child in children:
                if is_wording(child):
                    continue
                inner = f"{place}{branch[0]}"
                if isinstance(child, Function):
                    yield from self.function(child, inner)
                    continue
                alone = _lines(child)[0] > _lines(node)[0]
                yield from self.one(child, inner, "executed" if alone else "never", body)
                yield from self.inside(child, inner, body)

    def one(
        self, node: ast.AST, place: str, shown: Shown, body: range, binds: bool = False
    ) -> Iterator[Statement]:
        """A statement alone; an import of several names is one statement for each."""
        header = copy.copy(node)
        for name in BODIES:
            if isinstance(getattr(header, name, None), list):
                setattr(header, name, [])
        lines = _lines(node)
        if shown in ("executed", "imported"):
            shown = _how_shown(node, header, shown)
        for form, names, reads in self.forms(header):
            yield Statement(
                self.file,
                lines,
                f"{place}:{form}",
                shown,
                body,
                frozenset(names if binds else ()),
                frozenset(reads),
                any(isinstance(part, ast.Dict) and len(part.keys) > 1 for part in ast.walk(header)),
            )

    def forms(self, header: ast.AST) -> Iterator[tuple[str, set[str], set[str]]]:
        """(normal form, names that are bound, names that are read) of a statement, or of each name that it imports."""
        if isinstance(header, ast.Import):
            for alias in header.names:
                yield f"import {normal_form(alias)}", {(alias.asname or alias.name).split(".")[0]}, set()
        elif isinstance(header, ast.ImportFrom):
            for alias in header.names:
                own = (header.module or "").startswith("lib.") and alias.name in self.unique
                module = "lib" if own else f"{'.' * header.level}{header.module}"
                yield f"from {module} import {normal_form(alias)}", {alias.asname or alias.name}, {alias.name}
        else:
            bound = {header.name} if isinstance(header, Definition) else _stored(header)
            yield normal_form(header), bound, _mentioned(header)


def _inner(node: ast.AST) -> Iterator[tuple[str, list[ast.AST]]]:
    for name in BODIES:
        children = getattr(node, name, None)
        if isinstance(children, list):
            yield name, children


def _lines(node: ast.AST) -> range:
    """Lines of a statement without the statements inside it; of a ``try`` with the first one, and of a case its pattern's."""
    if isinstance(node, ast.match_case):
        return range(node.pattern.lineno, max(node.body[0].lineno, node.pattern.lineno + 1))
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])  # type: ignore[attr-defined]
    body = getattr(node, "body", None)
    if isinstance(body, list) and body:
        last = body[0].lineno if isinstance(node, (ast.Try, ast.TryStar)) else body[0].lineno - 1
    elif isinstance(node, ast.Match):
        last = node.cases[0].pattern.lineno - 1
    else:
        last = node.end_lineno or first  # type: ignore[attr-defined]
    return range(first, max(first, last) + 1)


def _how_shown(node: ast.AST, header: ast.AST, shown: Shown) -> Shown:
    parts = list(ast.walk(header))
    if any(
        isinstance(p, (ast.IfExp, ast.Lambda)) or (isinstance(p, ast.comprehension) and p.ifs) for p in parts
    ):
        return "never"
    if shown == "imported":
        return shown
    if isinstance(node, (ast.If, ast.While)) and not isinstance(node.test, ast.Constant):
        return "both ways"
    if isinstance(node, (ast.Global, ast.Nonlocal)) or (
        isinstance(node, ast.AnnAssign) and node.value is None
    ):
        return "entered"  # these leave no line to execute
    return shown


def _mentioned(header: ast.AST) -> set[str]:
    names = {n.id for n in ast.walk(header) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    return names | {n.attr for n in ast.walk(header) if isinstance(n, ast.Attribute)}


def _never_imported(node: ast.AST) -> bool:
    """``if __name__ == "__main__"`` and ``if TYPE_CHECKING``: no notebook runs what stands there."""
    if not isinstance(node, ast.If):
        return False
    test = ast.unparse(node.test).replace('"', "'")
    return not node.orelse and test in ("__name__ == '__main__'", "TYPE_CHECKING", "typing.TYPE_CHECKING")
