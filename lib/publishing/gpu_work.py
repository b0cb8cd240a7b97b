"""One piece of a GPU session in a process of its own: a look at the machine, or a chapter.

``python -m lib.publishing.gpu_work machine --accelerator gpu`` prints device and versions as JSON.
``python -m lib.publishing.gpu_work chapter minrnn --out FOLDER ...`` leaves the record and the executed notebook in the folder.

Cells tagged ``timed`` measure speed and have to be alone on the machine. Behind the last of them the process makes the file
:data:`TIMED_DONE` and goes on when a line comes on standard input. The end of standard input means that the session is gone: the
process ends its kernel and itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import nbformat

TIMED_TAG = "timed"
TIMED_DONE = "timed-done"
GRACE_SECONDS = 10


def machine(accelerator: str) -> dict[str, Any]:
    """Device, its memory in GB, cores, and versions; the imports that every chapter needs are tried on the way.

    Raises:
        ParameterError: if the accelerator is not there.
    """
    import torch

    import lib.publishing.execute  # noqa: F401 (a missing package shows here, before anything is spent)
    from lib.records import choose_device, device_name, versions
    from lib.workers import available_cores

    device = choose_device(accelerator)
    about: dict[str, Any] = {
        "device": device_name(device),
        "cores": available_cores(),
        "versions": versions(),
    }
    if device.type == "cuda":
        about["memory_gb"] = round(torch.cuda.get_device_properties(device).total_memory / 1e9, 1)
        about["cuda"] = torch.version.cuda
    return about


class Gate:
    """Lets the notebook pass its last timed cell only when the session says so, and ends it when the session is gone."""

    def __init__(self, timed_cells: int, folder: Path) -> None:
        self.left, self.folder = timed_cells, folder
        self.open = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while os.read(
            0, 1
        ):  # not sys.stdin, whose lock a waiting thread would still hold when the process ends
            self.open.set()
        os.kill(os.getpid(), signal.SIGTERM)  # nbclient ends the kernel on it
        time.sleep(GRACE_SECONDS)
        os._exit(1)  # the kernel sees that its parent is gone

    async def after_cell(self, cell: nbformat.NotebookNode) -> None:
        """Count timed cells; wait behind the last."""
        if TIMED_TAG not in cell.metadata.get("tags", []):
            return
        self.left -= 1
        if self.left == 0:
            (self.folder / TIMED_DONE).touch()
            while not self.open.is_set():
                await asyncio.sleep(0.05)


def chapter(slug: str, folder: Path, parameters: dict[str, Any]) -> None:
    """Run a chapter; its record and then its notebook lie in ``folder``.

    Raises:
        ExecutionError: if a cell fails.
    """
    import jupytext

    from lib.publishing.execute import ROOT, run_chapter
    from lib.publishing.pairing import write_notebook

    cells = jupytext.read(ROOT / "notebooks" / f"{slug}.py").cells
    gate = Gate(sum(TIMED_TAG in cell.metadata.get("tags", []) for cell in cells), folder)
    notebook = run_chapter(slug, {**parameters, "out_dir": str(folder)}, gate.after_cell)
    write_notebook(folder / f"{slug}.ipynb", notebook)


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="One piece of a GPU session.")
    parser.add_argument("what", choices=("machine", "chapter"))
    parser.add_argument("slug", nargs="?")
    parser.add_argument("--accelerator", default="gpu")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--parameters", type=json.loads, default={})
    options = parser.parse_args(arguments)
    from lib.profiles import OneLineError

    try:
        if options.what == "machine":
            print(json.dumps(machine(options.accelerator)))
        else:
            chapter(options.slug, options.out, options.parameters)
    except OneLineError as error:
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
