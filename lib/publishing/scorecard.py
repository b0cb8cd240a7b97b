"""The scorecard: every claim of every paper, with the verdict of the run that judges it.

Nothing here is typed by hand. A row comes from a ledger (``book/claims/<slug>.yml``) and from run records
(``book/runs/<slug>/<profile>/results.json``). Every record is judged again, by the ledger's present rules from its own measurements; a
``default`` record that stores another verdict stops the build, a larger run stays valid for its commit and is judged anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lib.claims import VERDICTS, Claim, Ledger, Measurement, Verdict
from lib.plain_files import read_json
from lib.profiles import OneLineError, nearest
from lib.records import RECORD_NAME, ROOT, read_measurements

RUNS_DIR = ROOT / "book" / "runs"
CHAPTERS = (
    "minrnn",
    "smbh",
    "adaptive_teachers",
    "meta_flow_matching",
    "ddpp",
    "delusions",
    "kl_regularized_rl",
    "harmaug",
    "compositionality",
    "object_centric",
)
"""The ten papers, in the order of the book."""

JUDGING_PROFILES = ("paper", "gpu", "default")
"""Profiles whose records the book shows, highest first. ``smoke`` judges nothing."""

MARKS: dict[Verdict, str] = {
    "reproduced": "✓",
    "same direction": "→",
    "inconclusive": "?",
    "contradicted": "✗",
    "not run": "–",
}
"""One sign for each verdict, so that none is told by colour alone."""

COLOURS: dict[Verdict, tuple[str, str]] = {
    "reproduced": ("#0b5a8c", "#ffffff"),
    "same direction": ("#8ecbf0", "#0b1b26"),
    "inconclusive": ("#f3e58a", "#2b2600"),
    "contradicted": ("#b3450a", "#ffffff"),
    "not run": ("#f4f4f4", "#595959"),
}
"""Background and text of each verdict: apart in lightness as well as in hue, for colour-blind readers and for print."""


CELLS = 20
"""Cells in one line of the scorecard's figure."""

FORM: dict[str, tuple[type, ...]] = {
    "slug": (str,),
    "profile": (str,),
    "seed": (int,),
    "device": (str,),
    "data_source": (str,),
    "wall_time_s": (int, float),
    "commit": (str, type(None)),
}
"""What the book shows of a record, and the types that it has there."""


class RecordError(OneLineError, ValueError):
    """A run record that is malformed, belongs to no chapter, or contradicts its ledger."""


@dataclass(frozen=True)
class RunRecord:
    """What the book shows of one ``results.json``."""

    slug: str
    profile: str
    seed: int
    device: str
    data_source: str
    wall_time_s: float
    commit: str | None
    measurements: Mapping[str, Measurement]
    verdicts: Mapping[str, Verdict]


@dataclass(frozen=True)
class Row:
    """One claim with the verdict that the book shows, the run it comes from, and what the lower profiles said."""

    claim: Claim
    verdict: Verdict
    record: RunRecord | None
    others: tuple[tuple[str, Verdict], ...] = ()

    @property
    def measured(self) -> Measurement | None:
        """The claim's metric in the judging run; None where no run judges the claim."""
        return self.record.measurements.get(self.claim.metric) if self.record else None


@dataclass(frozen=True)
class PaperScore:
    """All rows of one paper, and its records by profile."""

    ledger: Ledger
    rows: tuple[Row, ...]
    records: Mapping[str, RunRecord]

    def counts(self) -> dict[Verdict, int]:
        """How many claims have each verdict; verdicts without a claim are left out."""
        found = {verdict: sum(row.verdict == verdict for row in self.rows) for verdict in VERDICTS}
        return {verdict: n for verdict, n in found.items() if n}


def judged_record(name: str, raw: Mapping[str, Any], ledger: Ledger) -> RunRecord:
    """A record as the book shows it, its claims judged by the ledger's present rules.

    Args:
        name: what an error calls it. raw: the content of ``results.json``. ledger: the paper's ledger.

    Raises:
        RecordError: for a record that lacks something or has it in another form.
    """
    try:
        for key, kinds in FORM.items():
            if not isinstance(raw[key], kinds) or isinstance(raw[key], bool):
                raise TypeError(f"{key} is {str(raw[key])[:40]!r}")
        measurements = read_measurements(raw)
        profile, data_source = raw["profile"], raw["data_source"]
        return RunRecord(
            slug=raw["slug"],
            profile=profile,
            seed=raw["seed"],
            device=raw["device"],
            data_source=data_source,
            wall_time_s=float(raw["wall_time_s"]),
            commit=raw["commit"],
            measurements=measurements,
            verdicts=ledger.judge(measurements, profile, data_source),
        )
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise RecordError(f"{name}: not a run record ({type(error).__name__}: {error})") from error


def read_record(path: Path, ledger: Ledger) -> RunRecord:
    """Read a run record and judge it again.

    The record of the profile ``default`` has to store the verdicts that the rules give now, since its page, which is executed again
    with every change, shows them. A run of a larger profile stands for its commit: a later rule judges it anew.

    Args:
        path: ``…/<slug>/<profile>/results.json``.
        ledger: the paper's ledger.

    Raises:
        RecordError: one line, for a record that cannot be read, lies in the wrong folder, or, with the profile ``default``, stores a
            verdict that the ledger's rule does not give.
    """
    name = "/".join(path.parts[-3:])
    profile = path.parent.name
    raw = read_json(path, RecordError, name)
    try:
        stored = dict(raw["verdicts"])
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"{name}: not a run record ({type(error).__name__}: {error})") from error
    record = judged_record(name, raw, ledger)
    if (record.slug, record.profile) != (ledger.slug, profile):
        raise RecordError(f"{name}: this is the record of {record.slug!r}, profile {record.profile!r}")
    for claim_id in {**record.verdicts, **stored} if profile == "default" else ():
        if stored.get(claim_id) != record.verdicts.get(claim_id):
            raise RecordError(
                f"{name}: claim {claim_id} is stored as {stored.get(claim_id)!r}, but the ledger's rule gives "
                f"{record.verdicts.get(claim_id)!r}; run the chapter again (make refresh CHAPTER={ledger.slug})"
            )
    return record


def read_records(ledgers: Mapping[str, Ledger], runs_dir: Path = RUNS_DIR) -> dict[str, dict[str, RunRecord]]:
    """All run records that the book shows: slug → profile → record.

    Raises:
        RecordError: for a record that :func:`read_record` refuses, an unknown slug, or a profile that judges nothing.
    """
    found: dict[str, dict[str, RunRecord]] = {slug: {} for slug in ledgers}
    for path in sorted(runs_dir.glob(f"*/*/{RECORD_NAME}")):
        slug, profile = path.parts[-3:-1]
        if slug not in ledgers:
            raise RecordError(f"book/runs/{slug}: no ledger has this slug{nearest(slug, ledgers)}")
        if profile not in JUDGING_PROFILES:
            raise RecordError(
                f"book/runs/{slug}/{profile}: the book shows the profiles {', '.join(JUDGING_PROFILES)} only"
            )
        found[slug][profile] = read_record(path, ledgers[slug])
    return found


def score(ledger: Ledger, records: Mapping[str, RunRecord]) -> PaperScore:
    """Choose for each claim the run that speaks: the highest profile whose record judges it."""
    rows = []
    for claim in ledger.claims:
        judged = [
            (profile, records[profile].verdicts[claim.id])
            for profile in JUDGING_PROFILES
            if profile in records and records[profile].verdicts[claim.id] != "not run"
        ]
        if judged:
            (profile, verdict), *others = judged
            rows.append(Row(claim, verdict, records[profile], tuple(others)))
        else:
            rows.append(Row(claim, "not run", None))
    return PaperScore(ledger, tuple(rows), dict(records))


def scorecard(ledgers: Mapping[str, Ledger], runs_dir: Path = RUNS_DIR) -> list[PaperScore]:
    """The whole scorecard, in the order of the book.

    Raises:
        RecordError: see :func:`read_records`; also for a ledger whose slug is not one of :data:`CHAPTERS`.
    """
    for slug in ledgers:
        if slug not in CHAPTERS:
            raise RecordError(f"book/claims/{slug}.yml: not a chapter of the book{nearest(slug, CHAPTERS)}")
    records = read_records(ledgers, runs_dir)
    return [score(ledgers[slug], records[slug]) for slug in CHAPTERS if slug in ledgers]


def total_counts(scores: list[PaperScore]) -> dict[Verdict, int]:
    """Claims of each verdict over all papers; verdicts without a claim are left out."""
    found = {verdict: sum(s.counts().get(verdict, 0) for s in scores) for verdict in VERDICTS}
    return {verdict: n for verdict, n in found.items() if n}


def counts_text(counts: Mapping[Verdict, int]) -> str:
    """Counts in words: ``2 reproduced, 1 not run``."""
    return ", ".join(f"{n} {verdict}" for verdict, n in counts.items()) or "no claims"


def alt_text(scores: list[PaperScore]) -> str:
    """What the scorecard's figure shows, in words."""
    papers = "; ".join(f"{s.ledger.slug}: {counts_text(s.counts())}" for s in scores)
    return f"Grid of papers by claims, one cell for each claim with the sign of its verdict. {papers}."


def figure(scores: list[PaperScore]) -> Figure:
    """Draw papers × claims: one cell for each claim with the sign of its verdict, and its id where that is short.

    Papers with more than :data:`CELLS` claims take several lines.
    """
    lines = [
        (paper.ledger.slug if start == 0 else "", paper.rows[start : start + CELLS])
        for paper in scores
        for start in range(0, max(len(paper.rows), 1), CELLS)
    ]
    fig, axes = plt.subplots(figsize=(8.0, 0.36 * len(lines) + 0.8), layout="constrained")
    for y, (_, rows) in enumerate(lines):
        for x, row in enumerate(rows):
            background, ink = COLOURS[row.verdict]
            axes.add_patch(
                Rectangle((x + 0.04, y + 0.06), 0.92, 0.88, facecolor=background, edgecolor="#8a8a8a", lw=0.6)
            )
            style: dict[str, Any] = {
                "parse_math": False,
                "ha": "center",
                "va": "center",
                "color": ink,
                "family": "DejaVu Sans",
            }
            short = len(row.claim.id) <= 3
            axes.text(x + 0.5, y + (0.67 if short else 0.5), MARKS[row.verdict], fontsize=9, **style)
            if short:
                axes.text(x + 0.5, y + 0.28, row.claim.id, fontsize=6, **style)
    axes.set_xlim(0, CELLS)
    axes.set_ylim(len(lines), 0)
    named = [(y + 0.5, slug) for y, (slug, _) in enumerate(lines) if slug]
    axes.set_yticks([y for y, _ in named], [slug for _, slug in named])
    axes.set_xticks([])
    axes.tick_params(length=0, labelsize=9)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.grid(False)
    axes.set_xlabel("claims of each paper, in the order of its ledger", fontsize=9)
    counts = total_counts(scores)
    handles = [
        Rectangle((0, 0), 1, 1, facecolor=COLOURS[v][0], edgecolor="#8a8a8a", lw=0.6) for v in VERDICTS
    ]
    labels = [f"{MARKS[v]} {v} ({counts.get(v, 0)})" for v in VERDICTS]
    fig.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=len(VERDICTS),
        fontsize=8.5,
        frameon=False,
        handlelength=1.2,
        columnspacing=1.2,
    )
    return fig
