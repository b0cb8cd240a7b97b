"""The ledger of claims, and the rules by which a run's measurements are judged.

Each paper has one ledger, ``book/claims/<slug>.yml``. A claim carries the number that the paper reports, the metric that
stands for it here, and a rule fixed before the run. A rule is a list of conditions, each a comparison of a metric's
95 % interval with a number; a condition *holds*, *fails*, or is *unclear* where the interval straddles the number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from lib.profiles import PROFILE_NAMES, OneLineError, nearest

Verdict = Literal["reproduced", "same direction", "inconclusive", "contradicted", "not run"]
VERDICTS: tuple[Verdict, ...] = ("reproduced", "same direction", "inconclusive", "contradicted", "not run")
Outcome = Literal["holds", "fails", "unclear"]
Source = Literal["nothing", "training", "clock"]
CLAIMS_DIR = Path(__file__).resolve().parent.parent / "book" / "claims"


class LedgerError(OneLineError, ValueError):
    """A ledger that breaks the schema."""


@dataclass(frozen=True)
class Measurement:
    """A metric's value with its 95 % interval; ``low == high == mean`` for an exact value.

    ``varies`` says what makes the same code measure something else on another machine: nothing but rounding, a training, whose
    steps carry rounding on, or the clock.
    """

    mean: float
    low: float
    high: float
    values: tuple[float, ...] = ()
    unit: str = ""
    varies: Source = "training"


@dataclass(frozen=True)
class Condition:
    """One comparison: ``above`` a number, ``below`` a number, or ``within`` a tolerance of a number."""

    metric: str
    kind: Literal["above", "below", "within"]
    target: float
    tolerance: float = 0.0

    def check(self, measurement: Measurement) -> Outcome:
        """Compare the whole interval with the target."""
        low, high = measurement.low, measurement.high
        if any(math.isnan(x) for x in (measurement.mean, low, high)):
            return "unclear"
        if self.kind == "within":
            floor, ceiling = self.target - self.tolerance, self.target + self.tolerance
            if floor <= low and high <= ceiling:
                return "holds"
            return "fails" if high < floor or low > ceiling else "unclear"
        if self.kind == "below":
            low, high, target = -high, -low, -self.target
        else:
            target = self.target
        if low > target:
            return "holds"
        # an exact value that meets the bound without passing it does not pass it
        return "fails" if high < target or low == high == target else "unclear"

    def __str__(self) -> str:
        if self.kind == "within":
            return f"{self.metric} = {self.target:g} ± {self.tolerance:g}"
        return f"{self.metric} {'>' if self.kind == 'above' else '<'} {self.target:g}"


@dataclass(frozen=True)
class Claim:
    """One row of a ledger. The fields are those of the YAML file; see the page *How a chapter is made*."""

    id: str
    claim: str
    where: str
    reported: Mapping[str, Any]
    metric: str
    unit: str
    measures: Mapping[str, str]
    judged_in: tuple[str, ...]
    direction: tuple[Condition, ...]
    reproduced: tuple[Condition, ...] = ()
    data: Literal["any", "real"] = "any"
    paper_setting: tuple[str, ...] = ()
    needs: str = ""
    falsified_when: str = ""
    note: str = ""

    @property
    def metrics(self) -> set[str]:
        """Names of all metrics that the rule reads."""
        return {self.metric} | {c.metric for c in (*self.direction, *self.reproduced)}

    def rule(self) -> str:
        """The rule as one line of text."""
        text = " and ".join(map(str, self.direction))
        if self.reproduced:
            text += "; reproduced: " + " and ".join(map(str, self.reproduced))
        return text

    def judge(
        self, measurements: Mapping[str, Measurement], profile: str, data_source: str = "generated"
    ) -> Verdict:
        """Judge a run.

        Args:
            measurements: metric name → measurement of the run.
            profile: the profile that was run.
            data_source: ``real``, ``standin`` or ``generated``.

        Returns:
            ``not run`` if this profile (or this data) does not judge the claim or a metric is missing; ``contradicted`` if
            a condition of the direction fails; ``inconclusive`` if one is unclear; else ``reproduced`` where the run is at
            the paper's own setting and the numbers agree, and ``same direction`` elsewhere.
        """
        needed = {c.metric for c in self.direction} | {self.metric}
        if profile not in self.judged_in or not needed <= measurements.keys():
            return "not run"
        if self.data == "real" and data_source == "standin":
            return "not run"
        outcomes = {c.check(measurements[c.metric]) for c in self.direction}
        if "fails" in outcomes:
            return "contradicted"
        if "unclear" in outcomes:
            return "inconclusive"
        at_paper_setting = profile in self.paper_setting
        agrees = all(
            c.metric in measurements and c.check(measurements[c.metric]) == "holds" for c in self.reproduced
        )
        return "reproduced" if at_paper_setting and agrees else "same direction"


@dataclass(frozen=True)
class Ledger:
    """All claims of one paper."""

    slug: str
    title: str
    authors: str
    arxiv: str
    version: str
    venue: str
    citation: str
    summary: str
    claims: tuple[Claim, ...] = field(default_factory=tuple)

    def judge(
        self, measurements: Mapping[str, Measurement], profile: str, data_source: str = "generated"
    ) -> dict[str, Verdict]:
        """Judge every claim; see :meth:`Claim.judge`."""
        return {claim.id: claim.judge(measurements, profile, data_source) for claim in self.claims}


def _require(mapping: Any, keys: Iterable[str], optional: Iterable[str], where: str) -> None:
    if not isinstance(mapping, Mapping):
        raise LedgerError(f"{where}: expected a mapping, got {type(mapping).__name__}")
    keys, optional = list(keys), list(optional)
    for key in mapping:
        if key not in keys and key not in optional:
            raise LedgerError(f"{where}: unknown key {key!r}{nearest(key, [*keys, *optional])}")
    for key in keys:
        if key not in mapping:
            raise LedgerError(f"{where}: missing key {key!r}")


def _condition(raw: Any, where: str) -> Condition:
    _require(raw, ["metric"], ["above", "below", "within"], where)
    kinds = [kind for kind in ("above", "below", "within") if kind in raw]
    if len(kinds) != 1:
        raise LedgerError(f"{where}: a condition has exactly one of above, below, within")
    kind, target = kinds[0], raw[kinds[0]]
    if kind == "within":
        if not (isinstance(target, list) and len(target) == 2 and target[1] >= 0):
            raise LedgerError(f"{where}: within needs [centre, tolerance ≥ 0]")
        return Condition(raw["metric"], "within", float(target[0]), float(target[1]))
    if isinstance(target, bool) or not isinstance(target, (int, float)):
        raise LedgerError(f"{where}: {kind} needs a number, got {target!r}")
    return Condition(raw["metric"], kind, float(target))  # type: ignore[arg-type]


def _claim(raw: Any, where: str) -> Claim:
    required = ["id", "claim", "where", "reported", "metric", "measures", "judged_in", "rule"]
    optional = ["unit", "data", "paper_setting", "needs", "falsified_when", "note"]
    _require(raw, required, optional, where)
    where = f"{where} {raw['id']}"
    _require(raw["reported"], ["value", "text", "provenance"], ["uncertainty", "unit"], f"{where} reported")
    _require(raw["rule"], ["direction"], ["reproduced"], f"{where} rule")
    profiles = [*raw["judged_in"], *raw.get("paper_setting", []), *raw["measures"]]
    for profile in profiles:
        if profile not in PROFILE_NAMES:
            raise LedgerError(f"{where}: unknown profile {profile!r}{nearest(profile, PROFILE_NAMES)}")
    if "smoke" in raw["judged_in"]:
        raise LedgerError(f"{where}: the profile smoke judges no claim")
    if raw.get("data", "any") not in ("any", "real"):
        raise LedgerError(f"{where}: data is 'any' or 'real', got {raw['data']!r}")
    direction = tuple(_condition(c, f"{where} rule") for c in raw["rule"]["direction"])
    if not direction:
        raise LedgerError(f"{where}: a rule needs at least one condition of direction")
    return Claim(
        id=str(raw["id"]),
        claim=raw["claim"],
        where=raw["where"],
        reported=dict(raw["reported"]),
        metric=raw["metric"],
        unit=raw.get("unit", ""),
        measures=dict(raw["measures"]),
        judged_in=tuple(raw["judged_in"]),
        direction=direction,
        reproduced=tuple(_condition(c, f"{where} rule") for c in raw["rule"].get("reproduced") or []),
        data=raw.get("data", "any"),
        paper_setting=tuple(raw.get("paper_setting") or []),
        needs=raw.get("needs", ""),
        falsified_when=raw.get("falsified_when", ""),
        note=raw.get("note", ""),
    )


def read_ledger(path: Path) -> Ledger:
    """Read and validate a ledger.

    Raises:
        LedgerError: one line that names the file, the claim and the breach.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise LedgerError(f"{path.name}: not valid YAML ({' '.join(str(error).split())})") from error
    head = ["slug", "title", "authors", "arxiv", "version", "venue", "citation", "summary"]
    _require(raw, [*head, "claims"], [], path.name)
    if raw["slug"] != path.stem:
        raise LedgerError(f"{path.name}: slug {raw['slug']!r} differs from the file's name")
    claims = tuple(_claim(c, path.name) for c in raw["claims"])
    ids = [claim.id for claim in claims]
    for repeated in {i for i in ids if ids.count(i) > 1}:
        raise LedgerError(f"{path.name}: claim id {repeated!r} occurs twice")
    return Ledger(**{key: str(raw[key]) for key in head}, claims=claims)


@cache
def ledger(slug: str) -> Ledger:
    """The ledger of the chapter ``slug``."""
    return read_ledger(CLAIMS_DIR / f"{slug}.yml")


def ledgers() -> dict[str, Ledger]:
    """All ledgers by slug, in the order of their files' names."""
    return {path.stem: ledger(path.stem) for path in sorted(CLAIMS_DIR.glob("*.yml"))}


def format_measurement(measurement: Measurement | None) -> str:
    """A measured value as text: mean with its interval, to three significant digits."""
    if measurement is None:
        return "–"
    unit = f" {measurement.unit}" if measurement.unit and measurement.unit != "1" else ""
    if measurement.low == measurement.high:
        return f"{measurement.mean:.3g}{unit}"
    if math.isinf(measurement.low):
        return f"{measurement.mean:.3g}{unit} (one run)"
    return f"{measurement.mean:.3g} [{measurement.low:.3g}, {measurement.high:.3g}]{unit}"


def format_reported(reported: Mapping[str, Any]) -> str:
    """A reported value as text, with its provenance mark."""
    text = str(reported["text"])
    mark = str(reported["provenance"] or "").strip("[]")
    return f"{text} [{mark}]" if mark else text
