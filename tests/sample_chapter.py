"""A small chapter that tests share: its profiles, and a run started from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lib.profiles import setting, settings_class
from lib.records import Run


@settings_class
class Settings:
    steps: int = setting(10, "steps", "optimiser steps", paper=1000)


PROFILES = {name: Settings() for name in ("smoke", "default", "gpu", "paper")}


def start(out_dir: Path | None, **parameters: Any) -> Run[Settings]:
    """Start a run of the chapter minrnn's ledger with the sample profiles."""
    return Run.start("minrnn", PROFILES, **{"accelerator": "cpu", "out_dir": out_dir, **parameters})
