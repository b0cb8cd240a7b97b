"""The experiments of the chapter, one module each, in the order of the paper; the last six are not in it."""
