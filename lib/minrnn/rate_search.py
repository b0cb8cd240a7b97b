"""Learning rates that models are tried with: as many for each, or the comparison is between searches."""

from __future__ import annotations

from lib.profiles import ParameterError

Rates = tuple[tuple[float, ...], ...]
"""One tuple of rates for all models, or one for each."""


def check_rates(name: str, rates: Rates, models: tuple[str, ...]) -> None:
    """Check that ``rates``, the setting ``name``, give every model a search, and each the same number of different rates.

    Raises:
        ParameterError: otherwise.
    """
    if len(rates) not in (1, len(models)):
        raise ParameterError(f"{name}={rates} needs one tuple, or one for each of the {len(models)} models")
    if any(len(set(own)) < len(own) for own in rates):
        raise ParameterError(f"{name}={rates} names one of them twice")
    if len({len(own) for own in rates}) > 1:
        raise ParameterError(f"{name}={rates} tries more rates for one model than for another")


def rates_of(model: str, rates: Rates, models: tuple[str, ...]) -> tuple[float, ...]:
    """The rates that ``model`` is tried with."""
    return rates[models.index(model) if len(rates) > 1 else 0]
