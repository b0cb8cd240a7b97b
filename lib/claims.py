"""The ledger of claims, and the rules by which a run's measurements are judged.

Each paper has one ledger, ``book/claims/<slug>.yml``. A claim carries the number that the paper reports, the metric that
stands for it here, and a rule fixed before the run. A rule is a list of conditions, each a comparison of a metric's
95 % interval with a number; a condition *holds*, *fails*, or is *unclear* where the interval straddles the number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError, model_validator

from lib.plain_files import read_yaml
from lib.profiles import PROFILE_NAMES, OneLineError, choose, nearest, shown
from lib.statistics import interval_text

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


class _Row(BaseModel):
    """A mapping in a ledger: it holds its fields and nothing else, and never changes."""

    model_config = {"extra": "forbid", "frozen": True, "validate_by_name": True}

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, row: Any) -> Any:
        keys = [str(field.validation_alias or name) for name, field in cls.model_fields.items()]
        for key in row if isinstance(row, Mapping) else ():
            if key not in keys and key not in cls.model_fields:
                raise ValueError(f"unknown key {shown(key)}{nearest(key, keys)}")
        return row


def _number(value: object) -> float:
    try:
        return float(str(value))  # YAML reads 1e-3 as text, and Python takes True for 1
    except ValueError:
        raise ValueError(f"needs a number, got {shown(value)}") from None


Text = Annotated[str, Field(min_length=1)]
Metric = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Tolerance = Annotated[Number, Field(ge=0)]
Profile = Annotated[str, AfterValidator(lambda name: choose("profile", name, PROFILE_NAMES))]
Judging = Annotated[
    str, AfterValidator(lambda name: choose("profile", name, PROFILE_NAMES[1:]))
]  # smoke judges no claim


class Reported(_Row):
    """What the paper reports: the number with its uncertainty and unit, the same in words, and how it was read."""

    value: Number | None
    uncertainty: Number | None = None
    unit: str = ""
    text: Text
    provenance: Text


class Condition(_Row):
    """One comparison: ``above`` a number, ``below`` a number, or ``within`` [centre, tolerance]."""

    metric: Metric
    above: Number | None = None
    below: Number | None = None
    within: tuple[Number, Tolerance] | None = None

    @model_validator(mode="after")
    def _one_comparison(self) -> Self:
        given = self.model_fields_set - {"metric"}
        if len(given) != 1 or getattr(self, *given) is None:
            raise ValueError("a condition has exactly one of above, below, within")
        return self

    def check(self, measurement: Measurement) -> Outcome:
        """Compare the whole interval with the number."""
        low, high = measurement.low, measurement.high
        if any(math.isnan(x) for x in (measurement.mean, low, high)):
            return "unclear"
        if self.within is not None:
            centre, tolerance = self.within
            floor, ceiling = centre - tolerance, centre + tolerance
            if floor <= low and high <= ceiling:
                return "holds"
            return "fails" if high < floor or low > ceiling else "unclear"
        if self.above is not None:
            bound = self.above
        else:
            assert self.below is not None
            low, high, bound = -high, -low, -self.below
        if low > bound:
            return "holds"
        # an exact value that meets the bound without passing it does not pass it
        return "fails" if high < bound or low == high == bound else "unclear"

    def __str__(self) -> str:
        if self.within is not None:
            return f"{self.metric} = {self.within[0]:g} ± {self.within[1]:g}"
        sign, bound = (">", self.above) if self.above is not None else ("<", self.below)
        return f"{self.metric} {sign} {bound:g}"


class Rule(_Row):
    """The conditions under which the effect has the paper's direction, and those under which the numbers agree, too."""

    direction: Annotated[tuple[Condition, ...], Field(min_length=1)]
    reproduced: tuple[Condition, ...] = ()


class Claim(_Row):
    """One row of a ledger, its fields those of the YAML file; see the page *How a chapter is made*."""

    id: Text
    claim: Text
    where: Text
    reported: Reported
    metric: Metric
    unit: str = ""
    measures: dict[Profile, str]
    judged_in: tuple[Judging, ...]
    conditions: Rule = Field(validation_alias="rule")
    data: Literal["any", "real"] = "any"
    paper_setting: tuple[Profile, ...] = ()
    needs: str = ""
    falsified_when: str = ""
    note: str = ""

    @property
    def metrics(self) -> set[str]:
        """Names of all metrics that the rule reads."""
        return {self.metric} | {c.metric for c in (*self.conditions.direction, *self.conditions.reproduced)}

    def rule(self) -> str:
        """The rule as one line of text."""
        text = " and ".join(map(str, self.conditions.direction))
        if self.conditions.reproduced:
            text += "; reproduced: " + " and ".join(map(str, self.conditions.reproduced))
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
        direction, reproduced = self.conditions.direction, self.conditions.reproduced
        needed = {c.metric for c in direction} | {self.metric}
        if profile not in self.judged_in or not needed <= measurements.keys():
            return "not run"
        if self.data == "real" and data_source == "standin":
            return "not run"
        outcomes = {c.check(measurements[c.metric]) for c in direction}
        if "fails" in outcomes:
            return "contradicted"
        if "unclear" in outcomes:
            return "inconclusive"
        at_paper_setting = profile in self.paper_setting
        agrees = all(
            c.metric in measurements and c.check(measurements[c.metric]) == "holds" for c in reproduced
        )
        return "reproduced" if at_paper_setting and agrees else "same direction"


class Ledger(_Row):
    """All claims of one paper."""

    slug: Text
    title: Text
    authors: Text
    arxiv: Annotated[str, Field(pattern=r"^\d{4}\.\d{4,5}$")]
    version: Text
    venue: Text
    citation: Text
    summary: Text
    claims: tuple[Claim, ...]

    @model_validator(mode="after")
    def _ids_differ(self) -> Self:
        ids = [claim.id for claim in self.claims]
        for repeated in (i for i in ids if ids.count(i) > 1):
            raise ValueError(f"claim id {repeated!r} occurs twice")
        return self

    def judge(
        self, measurements: Mapping[str, Measurement], profile: str, data_source: str = "generated"
    ) -> dict[str, Verdict]:
        """Judge every claim; see :meth:`Claim.judge`."""
        return {claim.id: claim.judge(measurements, profile, data_source) for claim in self.claims}


def _breach(error: ValidationError, raw: Any) -> str:
    """The first breach of the schema as one line: the claim's id, the field, and what is wrong with it."""
    first = error.errors(include_url=False)[0]
    where, message = list(first["loc"]), first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if first["type"] == "missing" and isinstance(where[-1], str):
        message = f"missing key {where.pop()!r}"
    elif first["type"] != "value_error":
        message += f", got {shown(first['input'])}"
    owner = ""
    if len(where) > 1 and where[0] == "claims":
        row = raw["claims"][int(where[1])] if isinstance(raw["claims"], list) else None
        row_id = row.get("id") if isinstance(row, Mapping) else None
        owner = f"claim {row_id}" if isinstance(row_id, str) else f"claims[{where[1]}]"
        where = where[2:]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where if part != "[key]")
    place = ", ".join(filter(None, (owner, path.lstrip("."))))
    return " ".join(": ".join(filter(None, (place, message))).split())


def read_ledger(path: Path) -> Ledger:
    """Read and validate a ledger.

    Raises:
        LedgerError: one line that names the file, the claim, its field and the breach.
    """
    raw = read_yaml(path, LedgerError)
    try:
        found = Ledger.model_validate(raw)
    except ValidationError as error:
        raise LedgerError(f"{path.name}: {_breach(error, raw)}") from error
    if found.slug != path.stem:
        raise LedgerError(f"{path.name}: slug {found.slug!r} differs from the file's name")
    return found


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
    alone = " (one run)" if math.isinf(measurement.low) else ""
    return f"{interval_text(measurement)}{unit}{alone}"


def format_reported(reported: Reported) -> str:
    """A reported value as text, with its provenance mark."""
    return f"{reported.text} [{reported.provenance.strip('[]')}]"
