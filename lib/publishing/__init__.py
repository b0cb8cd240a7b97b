"""From run records to the book: the scorecard, generated pages, the README, execution and freshness of notebooks."""
