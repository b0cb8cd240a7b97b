"""Pages of the book that follow from ledgers, run records and code.

Two kinds. *Generated* pages (``book/generated/``, not in git) are written before each build and included by the committed pages:
claims tables, the scorecard, the landing page's cards, the benchmark tables, the list of modules. *Committed* files that follow from
the ledgers (``_toc.yml``, the stub pages of papers without a chapter in ``book/papers/``, the pages of the reference in ``book/api/``) are written by
``python -m lib.publishing.pages sync`` and checked before each build. Each page has its module here, and its text in
``lib/publishing/templates``.
"""
