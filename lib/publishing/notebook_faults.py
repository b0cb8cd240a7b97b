"""What nbformat raises for a file that is no notebook: cut off, of another form, nested without end."""

from __future__ import annotations

import nbformat

NOT_A_NOTEBOOK: tuple[type[Exception], ...] = (
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    RecursionError,
    nbformat.ValidationError,
)
