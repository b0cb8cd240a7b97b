"""The chapter's experiments, one module each; :mod:`lib.experiment` says what a module offers."""
