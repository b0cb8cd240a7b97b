"""Command line: ``sync`` writes the committed files, ``check`` checks them, ``generate`` writes ``book/generated``."""

from __future__ import annotations

import argparse

from lib.publishing.command import or_one_line
from lib.publishing.pages.committed import check_committed, sync_committed
from lib.publishing.pages.generated import write_generated


def sync() -> None:
    """Write the committed files and say which."""
    print("\n".join(f"wrote {name}" for name in sync_committed()) or "nothing to change")


def main(arguments: list[str] | None = None) -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Write or check the pages that follow from the ledgers.")
    actions = {"sync": sync, "check": check_committed, "generate": write_generated}
    parser.add_argument("action", choices=actions)
    return or_one_line(actions[parser.parse_args(arguments).action])


if __name__ == "__main__":
    raise SystemExit(main())
