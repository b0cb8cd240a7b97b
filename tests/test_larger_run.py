"""The page of a larger run is the chapter's notebook at another place of the book."""

from __future__ import annotations

import re

import jupytext
import nbformat
import pytest

from lib.publishing.freshness import slugs
from lib.publishing.larger_run import as_page
from lib.publishing.provenance import ROOT

TEXT = """\
(differences)=
## What differs

See [below](#differences), [by name](differences), [the book](../book/reading.md#profiles), [another chapter](smbh.ipynb), [the
web](https://x.org/a.html) and equation {eq}`eq-x`; {ref}`these <differences>`; the differences are many.

```{math}
:label: eq-x
x = 1
```

```{literalinclude} ../lib/claims.py
:pyobject: f
```
"""

MOVED = """\
(differences-gpu)=
## What differs

See [below](#differences-gpu), [by name](differences-gpu), [the book](../../../reading.md#profiles), [another chapter](../../../../notebooks/smbh.ipynb), [the
web](https://x.org/a.html) and equation {eq}`eq-x-gpu`; {ref}`these <differences-gpu>`; the differences are many.

```{math}
:label: eq-x-gpu
x = 1
```

```{literalinclude} ../../../../lib/claims.py
:pyobject: f
```
"""


def test_labels_and_links_are_its_own() -> None:
    title, text = nbformat.v4.new_markdown_cell("# Title\n\nText."), nbformat.v4.new_markdown_cell(TEXT)
    code = nbformat.v4.new_code_cell("differences = 1  # ](../x.md)")
    notebook = nbformat.v4.new_notebook(cells=[title, text, code])
    page = as_page(notebook, "minrnn", "gpu")
    assert page.cells[1].source == MOVED
    assert page.cells[2].source == code.source
    assert page.cells[0].source.startswith("# Title: the run with the profile gpu\n\n```{admonition}")
    assert "](../../../../book/scorecard.md#scorecard-minrnn)" in page.cells[0].source
    assert page.cells[0].source.endswith("\n\nText.")
    assert text.source == TEXT  # the notebook itself is as it was


@pytest.mark.parametrize("slug", slugs())
def test_of_every_chapter(slug: str) -> None:
    notebook = jupytext.read(ROOT / "notebooks" / f"{slug}.py")
    pattern = re.compile(r"^\(([\w-]+)\)=|^:label: (\S+)", re.MULTILINE)

    def written(cells: list[nbformat.NotebookNode]) -> str:
        return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")

    page = written(as_page(notebook, slug, "gpu").cells)
    labels = {a or b for a, b in pattern.findall(page)}
    assert not labels & {a or b for a, b in pattern.findall(written(notebook.cells))}
    for target in re.findall(r"\]\(#?([^)\s#]+)\)|\{eq\}`([\w-]+)`", page):
        name = target[0] or target[1]
        if name.startswith("http"):
            continue
        assert name in labels or (ROOT / "book" / "runs" / slug / "gpu" / name).resolve().is_file(), name
