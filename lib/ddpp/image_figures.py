"""Figures and tables of the digits and of the sentences: functions of results; captions live in the notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.by_seed import BySeed
from lib.ddpp.image_experiments import EVEN_NAME, ImageRow, values
from lib.ddpp.text_experiments import TextRow
from lib.figures import PALETTE
from lib.statistics import mean_text

LABELS = {
    "real": "real digits",
    "base": "base model",
    "best_of_n": "Best-of-N (argmax)",
    "sir": "SIR (resampled)",
    "svdd": "SVDD",
    "weighted_ce": "weighted CE (control)",
    "rtb": "RTB",
    "is": "DDPP-IS",
    "lb": "DDPP-LB",
    "kl": "DDPP-KL",
}
"""Method → label, in the order of the tables."""

COLOURS = dict(
    zip(("base", "best_of_n", "sir", "svdd", "rtb", "is", "lb", "kl"), [*PALETTE[6:], *PALETTE[:6]])
) | {"weighted_ce": "#333333"}
MARKERS = dict(zip(LABELS, "*soPvdXD^<"))

PAPER_DIGITS = {
    "base": ("-26.90", "33.89", "0.130"),
    "svdd": ("-0.03 ± 0.01", "34.19 ± 0.95", "–"),
    "rtb": ("-18.66 ± 2.45", "45.97 ± 0.89", "0.128"),
    "is": ("-5.14 ± 1.24", "33.11 ± 0.71", "0.130"),
    "lb": ("-5.68 ± 0.34", "33.76 ± 0.90", "0.128"),
    "kl": ("-3.13 ± 0.06", "31.75 ± 0.51", "0.129"),
}
"""Table 2 of the paper: log R, FLD (DINOv2, 28 × 28), bits per dimension."""

PAPER_REVIEWS = {
    "best_of_n": ("-103.05 ± 0.25", "124.45 ± 1.02"),
    "svdd": ("-27.48 ± 10.91", "165.86 ± 1.22"),
    "rtb": ("-35.22 ± 16.03", "160.54 ± 12.19"),
    "is": ("105.16 ± 2.41", "152.85 ± 1.64"),
    "lb": ("152.08 ± 34.01", "167.25 ± 27.33"),
}
"""Table 4 of the paper, Amazon reviews: log R as printed (its scale is not explained), GPT-2 Large perplexity."""


def _present(rows: Sequence[ImageRow] | Sequence[TextRow], target: str | None = None) -> list[str]:
    methods = {r.method for r in rows if target is None or getattr(r, "target", None) == target}
    return [m for m in LABELS if m in methods]


def image_table(rows: Sequence[ImageRow], target: str = EVEN_NAME) -> pd.DataFrame:
    """Table 2 with this run's numbers, mean with 95 % interval over seeds; the paper's beside them for the even digits."""
    table = []
    for method in _present(rows, target):

        def get(field: str, name: str = method) -> BySeed:
            return values(rows, target, name, field)

        line = {
            "method": LABELS[method],
            "log R": mean_text(get("log_reward"), ".2f"),
            "judged right (%)": mean_text(100 * get("judged").values, ".1f"),
            "Fréchet distance": mean_text(get("distance"), ".1f"),
            "FLD": mean_text(get("fld"), ".1f"),
            "bits/dim": mean_text(get("bits_per_dim"), ".4f"),
            "network calls (10³)": f"{1e-3 * get('network_rows').mean():.0f}" if method != "real" else "–",
            "different images (%)": f"{100 * get('distinct').mean():.0f}",
        }
        if target == EVEN_NAME:
            paper = PAPER_DIGITS.get(method, ("–",) * 3)
            line |= dict(zip(("paper: log R", "paper: FLD", "paper: bits/dim"), paper))
        table.append(line)
    frame = pd.DataFrame(table)
    return frame.loc[:, [c for c in frame if c in ("method", "log R") or (frame[c] != "–").any()]]


def image_figure(rows: Sequence[ImageRow], target: str = EVEN_NAME) -> Figure:
    """Samples of every method, one row each, beside the judge's class histogram; the wanted classes are the dark bars."""
    methods = _present(rows, target)
    first = {m: min((r for r in rows if (r.target, r.method) == (target, m)), key=lambda r: r.seed) for m in methods}  # fmt: skip
    wanted = {int(c) for c in target.split()[1:] if c.isdigit()} or set(range(0, 10, 2))
    fig, axes = plt.subplots(
        len(methods), 2, figsize=(11, 0.95 * len(methods)), width_ratios=[3.2, 1], squeeze=False
    )
    shares = {m: np.mean([r.histogram for r in rows if (r.target, r.method) == (target, m)], axis=0) for m in methods}  # fmt: skip
    highest = 105 * max(s.max() for s in shares.values())  # type: ignore[call-overload]
    for i, (method, (left, right)) in enumerate(zip(methods, axes)):
        images = first[method].examples
        k, side, _ = images.shape
        strip = np.ones((side + 2, k * (side + 2)))
        for j, image in enumerate(images):
            strip[1 : side + 1, j * (side + 2) + 1 : (j + 1) * (side + 2) - 1] = 1 - image
        left.imshow(strip, cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="equal")
        left.set_ylabel(LABELS[method].replace(" (", "\n("), rotation=0, ha="right", va="center", fontsize=10)
        left.set(xticks=[], yticks=[])
        left.grid(visible=False)
        left.spines[:].set_visible(False)
        right.bar(
            range(10), 100 * shares[method], color=[PALETTE[0] if c in wanted else "0.75" for c in range(10)]
        )
        right.set(ylim=(0, highest), xticks=range(10))
        right.tick_params(labelsize=8)
        right.tick_params(axis="x", labelbottom=i == len(methods) - 1)
    axes[0, 0].set_title(f"Samples steered towards {target}")
    axes[0, 1].set_title("Judge's classes (%)")
    axes[-1, 1].set_xlabel("digit")
    return fig


def trade_off_figure(rows: Sequence[ImageRow]) -> Figure:
    """Log reward against Fréchet distance, one panel per target; every seed is a small mark, the mean a large one."""
    targets = list(dict.fromkeys(r.target for r in rows))
    fig, axes = plt.subplots(1, len(targets), figsize=(5.6 * len(targets), 4.6), squeeze=False)
    for ax, target in zip(axes[0], targets):
        for method in _present(rows, target):
            x, y = (values(rows, target, method, f).values for f in ("log_reward", "distance"))
            colour = COLOURS.get(method, "black")
            ax.plot(-x, y, MARKERS[method], color=colour, ms=5, alpha=0.5)
            ax.plot(-x.mean(), y.mean(), MARKERS[method], color=colour, ms=11, label=LABELS[method], mec="white")  # fmt: skip
        ax.set(
            xscale="log", yscale="log", title=f"Target: {target}",
            xlabel="−log R (nats; left is better)", ylabel="Fréchet distance (down is better)",
        )  # fmt: skip
    handles, names = axes[0, 0].get_legend_handles_labels()
    axes[0, -1].legend(handles, names, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def text_table(rows: Sequence[TextRow]) -> pd.DataFrame:
    """Table 4 with this run's numbers, mean with 95 % interval over seeds, and the paper's reviews beside them."""
    table = []
    for method in _present(rows):
        own = [r for r in rows if r.method == method]
        paper = PAPER_REVIEWS.get(method, ("–", "–"))
        table.append(
            {
                "method": LABELS[method].replace("real digits", "unseen negative text"),
                "log R": mean_text([r.log_reward for r in own], ".2f"),
                "judged negative (%)": mean_text([100 * r.judged for r in own], ".1f"),
                "trigram perplexity": mean_text([r.perplexity for r in own], ".0f"),
                "distinct-2": mean_text([r.distinct for r in own], ".2f"),
                "copied from the training text (%)": mean_text([100 * r.copied for r in own], ".0f"),
                "paper: log R": paper[0],
                "paper: GPT-2 perplexity": paper[1],
            }
        )
    return pd.DataFrame(table)


def text_figure(rows: Sequence[TextRow]) -> Figure:
    """Log reward, judge and perplexity of every method: seeds as dots, means as bars."""
    methods = _present(rows)
    panels: Mapping[str, tuple[str, float]] = {
        "log_reward": ("log R (nats)", 1.0),
        "judged": ("judged negative (%)", 100.0),
        "perplexity": ("trigram perplexity", 1.0),
    }
    fig, axes = plt.subplots(1, len(panels), figsize=(12.5, 0.45 * len(methods) + 1.6), sharey=True)
    for ax, (field, (label, scale)) in zip(axes, panels.items()):
        for y, method in enumerate(methods):
            numbers = scale * np.array([getattr(r, field) for r in rows if r.method == method])
            colour = COLOURS.get(method, "black")
            ax.barh(y, numbers.mean(), color=colour, alpha=0.5)
            ax.plot(numbers, np.full(len(numbers), y), "o", color=colour, ms=5, mec="white")
        ax.set(xlabel=label)
    axes[0].set_yticks(
        range(len(methods)), [LABELS[m].replace("real digits", "unseen negative text") for m in methods]
    )
    axes[0].invert_yaxis()
    return fig


def sentence_examples(rows: Sequence[TextRow], count: int = 4) -> pd.DataFrame:
    """The first sentences of each method's first seed."""
    methods = _present(rows)
    first = {m: min((r for r in rows if r.method == m), key=lambda r: r.seed) for m in methods}
    return pd.DataFrame(
        [
            {"method": LABELS[m].replace("real digits", "unseen negative text"), "sentence": text}
            for m in methods
            for text in first[m].examples[:count]
        ]
    )
