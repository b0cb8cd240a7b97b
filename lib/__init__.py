"""Executable papers: the importable code behind the notebooks.

Shared modules live at the top level; each paper has a package of its own (``lib.minrnn``, ``lib.smbh``, …).
Importing ``lib`` or any of its packages starts no work, reads no file and touches no GPU.
"""

from lib import warning_filters

__version__ = "0.1.0"

warning_filters.install()
