"""Executable papers: the importable code behind the notebooks.

Shared modules live at the top level; each paper has a package of its own (``lib.minrnn``, ``lib.smbh``, …).
Importing ``lib`` or any of its packages starts no work, reads no file and touches no GPU.
"""

import warnings

__version__ = "0.1.0"

# Progress bars are plain text here, so tqdm's advice to install a widget package must not reach a page.
warnings.filterwarnings("ignore", message="IProgress not found")
