"""The parameters that were injected into a notebook, read in its kernel: one that nothing reads must not pass in silence.

papermill, and whatever else runs a notebook with parameters, puts a cell of assignments behind the cell that declares the parameters.
A misspelt name is assigned there like any other, and the run goes on with the default. A kernel knows nothing of the tags of cells, but
it keeps the source of what it has executed.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection

from lib.profiles import ParameterError, nearest

PARAMETERS = ("profile", "seed", "accelerator", "data", "out_dir", "overrides")
"""What every chapter declares, in this order; a chapter may declare more."""

MARK = "# Parameters"
"""The first line of a cell that papermill injects."""

_PAPERMILL_S_OWN = "PAPERMILL_"  # --inject-output-path and its kin


def check_injected(settings: Collection[str]) -> None:
    """Refuse an injected parameter that the notebook does not declare; outside a kernel, and where none was injected, all is well.

    Args:
        settings: names that belong in ``overrides``.

    Raises:
        ParameterError: one line with every such name: the nearest parameter, or that it is a setting.
    """
    injected, declared = injected_names(executed_cells())
    unknown = [name for name in injected if name not in declared and not name.startswith(_PAPERMILL_S_OWN)]
    if unknown:
        raise ParameterError("; ".join(_correction(name, declared, settings) for name in unknown))


def _correction(name: str, declared: Collection[str], settings: Collection[str]) -> str:
    said = f"unknown parameter {name!r}"
    if name in settings:
        return f"{said}: it is a setting and belongs in overrides"
    hint = nearest(name, [*declared, *settings])
    if hint and hint != nearest(name, declared):
        hint = hint.replace("mean ", "mean the setting ").replace("?", ", which belongs in overrides?")
    return said + (hint or f"; allowed: {', '.join(declared)}")


def executed_cells() -> list[str]:
    """Sources of the cells that this kernel has executed, the present one included; outside a kernel none."""
    history = getattr(sys.modules.get("__main__"), "In", None)
    return [source for source in history if isinstance(source, str)] if isinstance(history, list) else []


def injected_names(cells: list[str]) -> tuple[list[str], list[str]]:
    """Names that the last injected cell assigns, and names that the notebook declares; two empty lists where there is none.

    An injected cell is marked as papermill does; what the notebook declares stands in the nearest cell of constants before it. A cell
    without the mark was injected if it holds nothing but constants, stands right behind a cell of constants that declares all of
    :data:`PARAMETERS`, and sets at least one of what is declared there.
    """
    for at in range(len(cells) - 1, 0, -1):
        injected, only_constants = assignments(cells[at])
        if _is_marked(cells[at]):
            before = (assignments(cell) for cell in reversed(cells[:at]) if not _is_marked(cell))
            declared = next((names for names, constant in before if names and constant), [])
            return (injected, declared) if declared else ([], [])
        declared, declares = assignments(cells[at - 1])
        if only_constants and declares and set(PARAMETERS) <= set(declared) and set(injected) & set(declared):
            return injected, declared
    return [], []


def _is_marked(cell: str) -> bool:
    return cell.lstrip().startswith(MARK)


def assignments(source: str) -> tuple[list[str], bool]:
    """Names that a cell assigns at its top level, and whether it does nothing but assign constants."""
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError):  # such as a line of IPython's own
        return [], False
    names: list[str] = []
    only_constants = True
    for statement in statements:
        if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names += [
                node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)
            ]
            read = {node.id for node in ast.walk(statement.value) if isinstance(node, ast.Name)}
            only_constants &= read <= {"float"}  # as in float('nan'), which has no literal
        else:
            only_constants = False
    return names, only_constants
