"""What of a source text is code: two texts with the same fingerprint run the same, whatever their comments and layout."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def strip_docstrings(tree: ast.AST) -> ast.AST:
    """Remove docstrings (and other expression statements that are bare strings) from a syntax tree, in place."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [  # type: ignore[attr-defined]
                item
                for item in body
                if not (
                    isinstance(item, ast.Expr)
                    and isinstance(item.value, ast.Constant)
                    and isinstance(item.value.value, str)
                )
            ]
    return tree


def code_fingerprint(source: str) -> str:
    """The syntax tree of ``source`` as text, without comments, docstrings and layout.

    Raises:
        SyntaxError: if ``source`` is not Python.
    """
    return ast.dump(strip_docstrings(ast.parse(source)))
