"""The chapter's inputs, its jobs, and the metrics that the ledger reads from the measured tables.

``*_jobs`` turn a run's settings into arguments for one training each; ``measure_*`` turn tables into metrics, with the
formulas in their docstrings. A *separation* is I_d(k = 1) − I_d(k = 4), the smallest and the largest k that were measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from lib import tiny_shakespeare
from lib.by_seed import BySeed, average, paired
from lib.checkpoints import Kept, set_aside
from lib.compositionality import kolmogorov, natural_text
from lib.compositionality.bag_of_words import bag_of_words
from lib.compositionality.geometry import Tables, checkpoint_tables, geometry_rows, scale_rows
from lib.compositionality.grammar import (
    COUPLINGS,
    RELEASED_PROMPTS,
    SPLITS,
    Lexicon,
    degrees_of_freedom,
    draw,
    load_prompts,
)
from lib.compositionality.hub_models import HubModel, check_different, fingerprint, last_token_states, load
from lib.compositionality.language_model import GPTConfig
from lib.compositionality.lifetime import Plan
from lib.compositionality.profiles import Settings
from lib.compositionality.question_answering import Language
from lib.compositionality.shuffles import MODES, shuffle_lines
from lib.datasets import DataError
from lib.digest import digest
from lib.numeric_files import numbers, read_table
from lib.plain_files import decode, read_gzip
from lib.records import Run, write_json
from lib.statistics import interval_text

Job = tuple[Any, ...]
BAG = "bag of words"
SKILL_TASKS = ("lambada_openai", "sciq", "piqa", "arc_easy")
KOLMOGOROV_LINES = 8000


# --- inputs -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inputs:
    """Everything that is read, or its stand-in.

    Attributes:
        lexicon: the words. prompts: split → k → sentences (10000, 13). kc_prompts: ``k1``.. → sentences (8000, 13) for gzip.
        official_sizes: released gzip sizes, or None. zero_shot: accuracies of Pythia, or None. pile: snippets, or None.
        text: the corpus of the control with natural text.
    """

    lexicon: Lexicon
    prompts: Mapping[int, Mapping[int, np.ndarray]]
    kc_prompts: Mapping[str, np.ndarray]
    official_sizes: Mapping[str, int] | None
    zero_shot: pd.DataFrame | None
    pile: Sequence[str] | None
    text: str = ""


def standin_prompts(seed: int, n: int = RELEASED_PROMPTS) -> dict[int, dict[int, np.ndarray]]:
    """Five splits of freshly drawn sentences with the released structure."""
    return {
        split: {k: draw(k, n, np.random.default_rng([seed, split, k])) for k in COUPLINGS}
        for split in range(SPLITS)
    }


def load_inputs(run: Run[Settings]) -> Inputs:
    """Fetch the official files, or make the seeded stand-in: invented words and fresh sentences of the same coupling.

    Pythia's accuracies, the official gzip sizes and The Pile have no stand-in; without them their rows stay empty.

    Raises:
        DataError: for a corrupt or malformed file, or with ``data="real"`` one that cannot be had.
    """
    paths = run.fetch(
        "compositionality/lexicon.json",
        "compositionality/prompts_index.npz",
        "compositionality/kc_prompts_index.npz",
        "compositionality/kolmogorov_gzip_official.csv",
        "compositionality/pythia_zero_shot.csv",
        "compositionality/pile_sample_17w.txt.gz",
        tiny_shakespeare.FILE,
    )
    if paths is None:
        prompts = standin_prompts(run.seed)
        kc = {f"k{k}": draw(k, KOLMOGOROV_LINES, np.random.default_rng([run.seed, 6, k])) for k in COUPLINGS}
        text = natural_text.standin_text(run.seed)
        return Inputs(Lexicon.standin(run.seed), prompts, kc, None, None, None, text)
    released = load_prompts(paths[1])
    try:
        prompts = {s: {k: released[f"k{k}_rs{s}"] for k in COUPLINGS} for s in range(SPLITS)}
    except KeyError as error:
        raise DataError(f"{paths[1].name} lacks the array {error}") from error
    return Inputs(
        Lexicon.from_file(paths[0]),
        prompts,
        load_prompts(paths[2]),
        kolmogorov.read_official_sizes(paths[3]),
        read_zero_shot(paths[4]),
        read_pile(paths[5]),
        tiny_shakespeare.read_plays(paths[6], natural_text.SHORTEST),
    )


def read_zero_shot(path: Path) -> pd.DataFrame:
    """Zero-shot accuracies of Pythia: columns task, model_size, step, acc, acc_stderr.

    Raises:
        DataError: for a file that is no table, a missing column, or an accuracy outside 0..1.
    """
    frame = read_table(path, DataError, ("task", "model_size", "step", "acc", "acc_stderr"))
    accuracy = numbers(frame, ["step", "acc", "acc_stderr"], path.name, DataError)[:, 1]
    if not ((accuracy >= 0) & (accuracy <= 1)).all():
        raise DataError(f"{path.name} holds an accuracy outside 0..1")
    return frame


def read_pile(path: Path) -> list[str]:
    """The snippets of The Pile, to be measured and never printed.

    Raises:
        DataError: for a file that is no gzip file of text.
    """
    text = decode(read_gzip(path, DataError), path.name, DataError)
    return text.removesuffix("\n").split("\n")


# --- jobs ---------------------------------------------------------------------------------------------------------


def _config(settings: Settings, width: int) -> GPTConfig:
    s = settings
    return GPTConfig(width, s.layers, s.heads, s.steps, s.batch, s.questions, s.learning_rate, s.warmup)


def lifetime_jobs(run: Run[Settings], inputs: Inputs) -> list[Job]:
    """The main model, one job per seed, measured at every checkpoint on its own split."""
    s = run.settings
    jobs = []
    for i, seed in enumerate(run.seeds(s.seeds)):
        plan = Plan(
            "main",
            checkpoints=s.checkpoints,
            prompts=s.prompts,
            couplings=s.couplings,
            deep=True,
            group_prompts=s.group_prompts,
            sizes=s.sample_sizes if i == 0 else (),
        )
        prompts = dict(inputs.prompts[i % SPLITS])
        jobs.append((run, plan, _config(s, s.width), inputs.lexicon, prompts, seed, s.checkpoint_every))
    return jobs


def width_jobs(run: Run[Settings], inputs: Inputs) -> list[Job]:
    """Models of further widths with the same training, measured at its end; widest first."""
    s = run.settings
    return [
        (
            run,
            Plan(
                "width",
                checkpoints=(s.steps,),
                prompts=s.prompts,
                modes=("coherent", "glued"),
                couplings=s.couplings,
            ),
            _config(s, width),
            inputs.lexicon,
            dict(inputs.prompts[i % SPLITS]),
            seed,
            s.checkpoint_every,
        )
        for width in sorted(s.widths, reverse=True)
        for i, seed in enumerate(run.seeds(min(s.seeds, s.width_seeds)))
    ]


def length_jobs(run: Run[Settings], inputs: Inputs) -> list[Job]:
    """A model for every shorter grammar, measured at its end on fresh sentences of k = 1 and, where it has enough, k = 2."""
    s = run.settings
    jobs = []
    for slots in sorted(s.lengths, reverse=True):
        couplings = tuple(k for k in (1, 2) if 50 ** degrees_of_freedom(k, slots) >= 2 * s.length_prompts)
        plan = Plan(
            "length",
            slots=slots,
            checkpoints=(s.steps,),
            prompts=s.length_prompts,
            modes=("coherent", "glued"),
            couplings=couplings,
        )
        for seed in run.seeds(s.seeds):
            prompts = {
                k: draw(k, s.length_prompts, np.random.default_rng([seed, slots, k]), slots)
                for k in couplings
            }
            config = _config(replace_questions(s, slots), s.width)
            jobs.append((run, plan, config, inputs.lexicon, prompts, seed, s.checkpoint_every))
    return jobs


def text_jobs(run: Run[Settings], inputs: Inputs) -> list[Job]:
    """The control with natural text: models of characters, shown the smallest and the largest k of their split."""
    s = run.settings
    config = GPTConfig(
        s.text_width, s.layers, s.heads, s.text_steps, s.text_batch, 1, s.learning_rate, s.warmup
    )
    ends = sorted({s.couplings[0], s.couplings[-1]})
    return [
        (
            run,
            config,
            inputs.text,
            inputs.lexicon,
            {k: inputs.prompts[i % SPLITS][k][: s.text_prompts] for k in ends},
            s.text_prompts,
            seed,
            s.checkpoint_every,
        )
        for i, seed in enumerate(run.seeds(s.text_seeds))
    ]


def replace_questions(settings: Settings, slots: int) -> Settings:
    """The settings with no more questions than the sentence has slots."""
    return replace(settings, questions=min(settings.questions, slots))


def bag_tables(run: Run[Settings], inputs: Inputs) -> Tables:
    """B0: dimensions of the bag of random word vectors for every k, one draw of vectors and one split per seed."""
    s = run.settings
    language = Language.build(inputs.lexicon)
    tables = Tables()
    for i, seed in enumerate(run.seeds(max(1, s.seeds))):
        for k in s.couplings:
            tokens = language.sentences(inputs.prompts[i % SPLITS][k][: s.prompts])
            states = bag_of_words(tokens, language.size, s.bag_width, seed)
            labels = {
                "model": BAG,
                "width": s.bag_width,
                "seed": seed,
                "words": 17,
                "step": 0,
                "mode": "any",
                "k": k,
            }
            tables.geometry += geometry_rows(states[None], labels)
            tables.scales += scale_rows(states, labels)
    return tables


def merge(results: Iterable[Tables]) -> dict[str, pd.DataFrame]:
    """Data frames by kind from the tables of several jobs."""
    whole = Tables()
    for tables in results:
        whole.extend(tables)
    return {name: pd.DataFrame(rows) for name, rows in vars(whole).items()}


# --- models of the hub --------------------------------------------------------------------------------------------


def hub_sets(settings: Settings, inputs: Inputs, split: int) -> dict[tuple[str, int], list[str]]:
    """Text of every data set of one split, (mode, k) → lines; k = 0 is The Pile."""
    n = settings.hub_prompts
    sets = {}
    for k in settings.couplings:
        lines = inputs.lexicon.render(inputs.prompts[split][k][:n])
        for mode in MODES:
            sets[mode, k] = shuffle_lines(lines, mode, np.random.default_rng([split, k, MODES.index(mode)]))
    if settings.pile and inputs.pile is not None:
        for mode in ("coherent", "glued"):
            sets[mode, 0] = shuffle_lines(
                list(dict.fromkeys(inputs.pile))[:n],
                mode,
                np.random.default_rng([split, 0, MODES.index(mode)]),
            )
    return sets


def hub_tables(run: Run[Settings], inputs: Inputs) -> Tables:
    """Measure every hub model at every step on every split; finished (model, step) pairs are kept until the run has ended.

    Raises:
        DataError: for a model that cannot be had, or two revisions with the same weights.
        CheckpointError: if a run calls it twice.
    """
    s = run.settings
    tables = Tables()
    folder = Kept.of(run, "models of the hub", (inputs.lexicon, inputs.prompts, inputs.pile)).claim()
    for place, (source, steps) in enumerate(zip(s.hub_models, s.hub_steps, strict=True)):
        model = HubModel(source, steps)
        fingerprints: dict[str, tuple[float, ...]] = {}
        for step, revision in model.revisions.items():
            path = folder / f"{place}-{revision}.json"
            kept = read_part(path, f"{model.name} {revision}")
            if kept is None:
                loaded, tokenizer = load(model.source, revision, run.device, getattr(torch, s.hub_precision))
                kept = fingerprint(loaded), _hub_step(run, inputs, model, step, loaded, tokenizer)
                del loaded
                write_part(path, *kept)
            fingerprints[revision], part = kept
            check_different(fingerprints, model.source)
            tables.extend(part)
    return tables


def write_part(path: Path, weights: tuple[float, ...], tables: Tables) -> None:
    """Keep the tables of one model at one step with the fingerprint of its weights, and a checksum of both."""
    content = {"fingerprint": weights, "tables": asdict(tables)}
    write_json(path, {**content, "digest": digest(content)})


def read_part(path: Path, label: str) -> tuple[tuple[float, ...], Tables] | None:
    """What :func:`write_part` kept, or None where there is nothing; a damaged file is set aside with a notice."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("digest") != digest(content):
            raise ValueError("another checksum")
        return tuple(content["fingerprint"]), Tables(**content["tables"])
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ):  # cut, other bytes, another JSON
        set_aside(path, label, "the model is measured anew")
        return None


def _hub_step(
    run: Run[Settings], inputs: Inputs, model: HubModel, step: int, loaded: Any, tokenizer: Any
) -> Tables:
    s = run.settings
    part = Tables()
    for split in range(s.hub_splits):
        sets = hub_sets(s, inputs, split)

        def represent(mode: str, k: int, sets: dict = sets) -> tuple[Tensor, np.ndarray]:
            states, tokens = last_token_states(loaded, tokenizer, sets[mode, k], s.hub_batch)
            return states.to(run.device), tokens.numpy()

        labels = {
            "model": model.name,
            "width": loaded.config.hidden_size,
            "seed": split,
            "words": 17,
            "step": step,
        }
        part.extend(checkpoint_tables(represent, MODES, s.couplings, labels, deep=split == 0))
        if ("coherent", 0) in sets:
            part.extend(checkpoint_tables(represent, ("coherent", "glued"), (0,), labels, deep=False))
    return part


# --- metrics ------------------------------------------------------------------------------------------------------


def pick(frame: pd.DataFrame, layer: str = "last", **where: Any) -> pd.DataFrame:
    """Rows with the given values of columns, at the last layer or averaged over layers (``layer="mean"``), by seed and k."""
    for column, value in where.items():
        frame = frame[frame[column] == value]
    if layer == "last":
        return frame[frame["layer"] == frame["layer"].max()]
    keys = [c for c in frame.columns if c not in ("layer", "id", "d", "d_official", "pr", "n")]
    return frame.groupby(keys, as_index=False)[["id", "d", "d_official", "pr"]].mean()


def by_k(frame: pd.DataFrame, value: str) -> pd.DataFrame:
    """One row per seed, one column per k."""
    return frame.pivot_table(index="seed", columns="k", values=value).sort_index()


def at_k(frame: pd.DataFrame, value: str, k: int) -> BySeed:
    """Value at one k, by seed."""
    return BySeed(by_k(frame, value)[k].to_dict())


def separation(frame: pd.DataFrame, value: str = "id") -> BySeed:
    """Value at the smallest k minus that at the largest k, by seed."""
    return at_k(frame, value, frame["k"].min()) - at_k(frame, value, frame["k"].max())


def mean_difference(first: pd.DataFrame, second: pd.DataFrame, value: str) -> BySeed:
    """Mean over k of the value of ``first`` minus that of ``second``, by seed."""
    return average(at_k(first, value, k) - at_k(second, value, k) for k in by_k(first, value).columns)


def crossing(steps: Sequence[float], values: Sequence[float], level: float) -> float | None:
    """log10(1 + step) at which ``values`` first passes ``level``, linearly between checkpoints on that axis; None if never."""
    x = np.log10(1 + np.asarray(steps, dtype=float))
    y = np.asarray(values, dtype=float) - level
    for i in range(1, len(y)):
        if y[i - 1] == 0:
            return float(x[i - 1])
        if y[i - 1] * y[i] <= 0:
            share = y[i - 1] / (y[i - 1] - y[i])
            return float(x[i - 1] + share * (x[i] - x[i - 1]))
    return None


def measure_composition(run: Run[Settings], frame: pd.DataFrame, layer: str = "last") -> None:
    """C1, C2, C2a and C6 at the first and the last step of ``frame``, one value per seed.

    id_smallest_step_in_k: smallest I_d(k) − I_d(k + 1) of coherent text. separation_ratio_shuffled_to_coherent: of the official
    shuffle (``_dot`` and ``_inner``: of the controls). id_coherent_minus_shuffled, d_shuffled_minus_coherent: official shuffle, the
    first at k = 1, the second averaged over k. d_shuffled_first_minus_last_k: separation of the linear dimension.
    id_fixed_stop_minus_glued and id_coherent_minus_glued_untrained: at k = 1, the latter at step 0.
    id_fixed_stop_minus_coherent_*: stop-fixed shuffle minus coherent text at the smallest and the largest k.
    id_share_of_collapse_from_last_token: (dot − glued) / (coherent − glued) at k = 1; 1 or more: all of it.
    """
    first, last = frame["step"].min(), frame["step"].max()
    sets = {mode: pick(frame, layer, mode=mode, step=last) for mode in MODES}
    coherent = by_k(sets["coherent"], "id")
    steps = -np.diff(coherent.to_numpy(), axis=1)
    run.measure("id_smallest_step_in_k", steps.min(axis=1), unit="dimensions")
    own = separation(sets["coherent"])
    run.measure("coherent_separation_at_end", own, unit="dimensions")
    for mode, suffix in (("glued", ""), ("dot", "_dot"), ("inner", "_inner")):
        run.measure(
            f"separation_ratio_shuffled_to_coherent{suffix}", separation(sets[mode]) / own, unit="ratio"
        )
        for value in ("d", "pr"):
            difference = mean_difference(sets[mode], sets["coherent"], value)
            run.measure(f"{value}_shuffled_minus_coherent{suffix}", difference, unit="dimensions")
    smallest, largest = coherent.columns.min(), coherent.columns.max()
    one = {mode: at_k(sets[mode], "id", smallest) for mode in MODES}
    run.measure("id_coherent_minus_shuffled", one["coherent"] - one["glued"], unit="dimensions")
    run.measure("d_shuffled_first_minus_last_k", separation(sets["glued"], "d"), unit="dimensions")
    run.measure("id_fixed_stop_minus_glued", one["dot"] - one["glued"], unit="dimensions")
    run.measure("id_fixed_stop_minus_coherent_first_k", one["dot"] - one["coherent"], unit="dimensions")
    raised = at_k(sets["dot"], "id", largest) - at_k(sets["coherent"], "id", largest)
    run.measure("id_fixed_stop_minus_coherent_last_k", raised, unit="dimensions")
    run.measure(
        "id_share_of_collapse_from_last_token", (one["dot"] - one["glued"]) / (one["coherent"] - one["glued"])
    )
    if first == 0 and last > 0:
        start = {mode: pick(frame, layer, mode=mode, step=first) for mode in ("coherent", "glued")}
        gap = at_k(start["coherent"], "id", smallest) - at_k(start["glued"], "id", smallest)
        run.measure("id_coherent_minus_glued_untrained", gap, unit="dimensions")
        untrained = -np.diff(by_k(start["coherent"], "id").to_numpy(), axis=1)
        run.measure("id_smallest_step_in_k_untrained", untrained.min(axis=1), unit="dimensions")


def _spread(run: Run[Settings], name: str) -> str:
    return interval_text(run.measurements[name], ".1f")


def control_summary(run: Run[Settings]) -> str:
    """Whether the order in k needs training, or a model at all, in words chosen by the measurements."""
    m = run.measurements
    text = (
        f"**In this run** the smallest step $I_d(k)-I_d(k+1)$ of coherent text is {_spread(run, 'id_smallest_step_in_k')} in the trained model, "
        f"{_spread(run, 'id_smallest_step_in_k_untrained')} in the untrained one and {_spread(run, 'bag_of_words_smallest_step_in_k')} in the bag of words. "
    )
    if m["id_smallest_step_in_k_untrained"].low > 0:
        text += "The untrained model has the order as well: the order by itself is no sign of learning. "
    return text


def linear_summary(run: Run[Settings]) -> str:
    """What happens to the linear dimension under the shuffles, in words chosen by the measurements."""
    m = run.measurements
    text = (
        f"Linear dimension, shuffled minus coherent (mean over $k$): {_spread(run, 'd_shuffled_minus_coherent')} under the official shuffle, "
        f"{_spread(run, 'd_shuffled_minus_coherent_dot')} with the stop fixed; participation ratio: {_spread(run, 'pr_shuffled_minus_coherent')} and "
        f"{_spread(run, 'pr_shuffled_minus_coherent_dot')}. "
    )
    if m["pr_shuffled_minus_coherent"].high < 0 < m["pr_shuffled_minus_coherent_dot"].low:
        text += (
            "So linear dimension rises where the last token is fixed. Under the official shuffle a few directions, which say what token is last, take most of the "
            "variance: the participation ratio falls, and the count of components for 99 % can go either way. "
        )
    text += (
        f"Between the smallest and the largest $k$ the official shuffle's $d$ differs by {_spread(run, 'd_shuffled_first_minus_last_k')} components. Words are as frequent "
        "for every $k$, and once their order is gone, what is left for second moments to see is which words occur together; $d$ is a whole number, and "
        "bounded by a small width."
    )
    return text


def training_summary(run: Run[Settings]) -> str:
    """When the separation of shuffled text falls, beside the rise of skill, in words chosen by the measurements."""
    m = run.measurements
    text = (
        f"**In this run** the separation of officially shuffled text falls by {_spread(run, 'shuffled_separation_drop')} from step 0 to the end, with the stop fixed by "
        f"{_spread(run, 'shuffled_separation_drop_dot')}; that of coherent text is {_spread(run, 'coherent_separation_at_end')} at the end. "
    )
    names = ("collapse_to_skill_distance", "collapse_to_skill_distance_dot")
    if not all(name in m for name in names):
        return (
            text
            + "In at least one seed there is no fall or no rise of skill, so that their distance is not judged. "
        )
    official, fixed = (m[name] for name in names)
    text += (
        f"The half-way point of the shuffled fall lies {interval_text(official, '.2f')} powers of ten of a step from that of the skill's rise under the official "
        f"shuffle, and {interval_text(fixed, '.2f')} with the stop fixed. "
    )
    if official.low > 0.5 and fixed.mean < official.low:
        text += (
            "So in the small model the official shuffle's separation does not fall when the skill rises; closer to the rise of skill is the fall of the separation where the last token "
            "is always the stop. The official curve is small and noisy, though: it mixes the sentence with its last word (C6), and a half-way point of such a curve is soon crossed."
        )
    return text


def width_summary(run: Run[Settings], frame: pd.DataFrame) -> str:
    """Growth of the dimensions with the width, with the number of widths and seeds that it rests on."""
    m = run.measurements
    widths = sorted(int(w) for w in frame["width"].unique())
    return (
        f"**In this run**, from D = {widths[0]} to {widths[-1]} ({len(widths)} widths, {len(m['id_width_exponent'].values)} seeds), $I_d$ grows like $D$ to the power "
        f"{interval_text(m['id_width_exponent'], '.2f')} and $d$ to the power "
        f"{interval_text(m['d_width_exponent'], '.2f')}; the correlation of $d$ with $D$ is "
        f"{m['d_width_correlation'].mean:.3f}. A factor of {widths[-1] / widths[0]:.0f} in width is little: where $I_d$ could still be limited by so small a width, "
        "it cannot be flat yet; the paper's widths span a factor of 40."
    )


def measure_last_token(run: Run[Settings], groups: pd.DataFrame, neighbors: pd.DataFrame) -> None:
    """C6 in detail at the last step, official shuffle, by seed.

    id_within_minus_mixed: I_d among sentences with one last token minus I_d of as many mixed ones, mean over groups, k = 1.
    id_within_minus_coherent: the same minus I_d of as many coherent ones. same_last_token_share: nearest neighbours that end alike.
    """
    near = neighbors[(neighbors["mode"] == "glued") & (neighbors["step"] == neighbors["step"].max())]
    run.measure("same_last_token_share", near.groupby("seed")["share"].mean().to_numpy(), unit="share")
    run.measure("same_last_token_chance", near.groupby("seed")["chance"].mean().to_numpy(), unit="share")
    if groups.empty:
        return
    last = groups[(groups["step"] == groups["step"].max()) & (groups["k"] == groups["k"].min())]
    for name, other in (("mixed", "id_mixed"), ("coherent", "id_coherent")):
        difference = (last["id"] - last[other]).groupby(last["seed"]).mean()
        run.measure(f"id_within_minus_{name}", difference.to_numpy(), unit="dimensions")


def composition_table(frame: pd.DataFrame, bag: pd.DataFrame, layer: str = "last") -> pd.DataFrame:
    """I_d, d and PR by k, mean over seeds: the bag of words, the first (untrained) and the last step, every order of words."""
    sets = [("bag of words, any order", bag)]
    for step in sorted({frame["step"].min(), frame["step"].max()}):
        name = "untrained" if step == 0 else f"step {step}"
        sets += [(f"{name}, {mode}", pick(frame, layer, mode=mode, step=step)) for mode in MODES]
    rows = []
    for name, own in sets:
        row: dict[str, Any] = {"representation": name}
        for value, symbol in (("id", "I_d"), ("d", "d"), ("pr", "PR")):
            for k, mean in own.groupby("k")[value].mean().items():
                row[f"{symbol} k={k}"] = float(mean)
        rows.append(row)
    return pd.DataFrame(rows)


def last_token_summary(run: Run[Settings]) -> str:
    """What the last-token controls say in this run, in words chosen by the measurements and their intervals."""
    m = run.measurements
    gap, back = m["id_coherent_minus_shuffled"], m["id_fixed_stop_minus_glued"]
    untrained = m["id_coherent_minus_glued_untrained"]
    ratio, dot = m["separation_ratio_shuffled_to_coherent"], m["separation_ratio_shuffled_to_coherent_dot"]
    text = (
        f"**In this run** the official shuffle takes {interval_text(gap, '.1f')} dimensions off $I_d$ at $k=1$ in the trained "
        f"model; with the stop fixed, {interval_text(back, '.1f')} come back. In the untrained model the official shuffle takes "
        f"{interval_text(untrained, '.1f')} off. The nearest neighbour of an officially shuffled sentence ends in the same token in "
        f"{100 * m['same_last_token_share'].mean:.0f} % of the cases, by chance in {100 * m['same_last_token_chance'].mean:.0f} %. "
    )
    if gap.low > 0 and back.low > 0 and back.mean >= gap.mean:
        text += "So the whole fall of the level comes from the last token: with the stop fixed, shuffled text is no lower than coherent text. "
    elif gap.low > 0 and back.low > 0:
        text += f"So {100 * back.mean / gap.mean:.0f} % of the fall of the level comes from the last token. "
    elif gap.low > 0:
        text += "So the fall of the level is not explained by the last token. "
    if "id_within_minus_mixed" in m:
        within = m["id_within_minus_mixed"]
        text += (
            f"Among shuffled sentences that all end in one token, $I_d$ is {interval_text(within, '+.1f')} against as many with "
            "mixed endings. "
        )
    raised = m["id_fixed_stop_minus_coherent_last_k"]
    text += f"Where $k$ is largest, shuffled text with a fixed stop lies {interval_text(raised, '+.1f')} dimensions from coherent text. "
    text += (
        f"Of the *separation* by $k$, shuffled text with a fixed stop keeps {interval_text(dot, '.2f')} of the coherent one, the official "
        f"shuffle {interval_text(ratio, '.2f')}: "
    )
    if dot.high < 0.5:
        return (
            text + "this loss does survive the control, and is what remains of the collapse under shuffling."
        )
    return text + "how much of this loss survives the control is not settled by this run."


def measure_text(run: Run[Settings], frame: pd.DataFrame, history: pd.DataFrame) -> None:
    """The control with natural text, last layer, by seed: text_skill; text_coherent_separation of the trained and the untrained
    model; text_coherent_separation_error, its sampling error with I_d/√N for each of the two; text_dot_separation, of the shuffle with a
    fixed stop."""
    last = frame["step"].max()
    run.measure("text_skill", history[history["step"] == last]["skill"].to_numpy(), unit="accuracy")
    own = separation(pick(frame, mode="coherent", step=last))
    run.measure("text_coherent_separation", own, unit="dimensions")
    untrained = separation(pick(frame, mode="coherent", step=frame["step"].min()))
    run.measure("text_coherent_separation_untrained", untrained, unit="dimensions")
    coherent = pick(frame, mode="coherent", step=last)
    errors = [math.hypot(*(part["id"] / part["n"] ** 0.5)) for _, part in coherent.groupby("seed")]
    run.measure("text_coherent_separation_error", errors, unit="dimensions")
    fixed = separation(pick(frame, mode="dot", step=last))
    run.measure("text_dot_separation", fixed, unit="dimensions")


def text_table(frame: pd.DataFrame) -> pd.DataFrame:
    """I_d, d and PR of the control with natural text by k, last layer, mean over seeds."""
    rows = []
    for step in sorted({frame["step"].min(), frame["step"].max()}):
        for mode in dict.fromkeys(frame["mode"]):
            name = "untrained" if step == 0 else f"step {step}"
            own = pick(frame, mode=mode, step=step).groupby("k")[["id", "d", "pr"]].mean()
            row: dict[str, Any] = {"model of characters": f"{name}, {mode}"}
            for value, symbol in (("id", "I_d"), ("d", "d"), ("pr", "PR")):
                row |= {f"{symbol} k={k}": float(mean) for k, mean in own[value].items()}
            rows.append(row)
    return pd.DataFrame(rows)


def text_summary(run: Run[Settings]) -> str:
    """What the control with natural text says in this run."""
    m = run.measurements
    text = (
        f"**In this run** the model of characters guesses {100 * m['text_skill'].mean:.0f} % of the next characters of held-out Shakespeare. Between the smallest and "
        f"the largest $k$ of coherent sentences, which are as foreign to it as anything, its $I_d$ differs by {_spread(run, 'text_coherent_separation')}; before any "
        f"training by {_spread(run, 'text_coherent_separation_untrained')}. The sampling error of such a difference is about "
        f"{m['text_coherent_separation_error'].mean:.1f} a seed. "
    )
    own = m["text_coherent_separation"]
    error = m["text_coherent_separation_error"].mean / math.sqrt(len(own.values))
    if own.mean > 2 * error:
        return (
            text
            + "So the order by $k$ is there without a single sentence of the grammar in training: it comes with the form of the text. "
        )
    return (
        text
        + "So this model does not show the order by $k$. A model of characters that guesses so few of them has little reason to "
        "look further back than the last word, and that is as varied for every $k$. "
    )


def measure_bag(run: Run[Settings], bag: pd.DataFrame) -> None:
    """B0: smallest I_d(k) − I_d(k + 1) without any model, by seed."""
    steps = -np.diff(by_k(bag, "id").to_numpy(), axis=1)
    run.measure("bag_of_words_smallest_step_in_k", steps.min(axis=1), unit="dimensions")


def measure_training(run: Run[Settings], frame: pd.DataFrame, history: pd.DataFrame) -> None:
    """C3, one value per seed; the ``_dot`` variants follow the shuffle whose last token is fixed.

    shuffled_separation_drop: separation of the official shuffle at step 0 minus at the end. collapse_to_skill_distance: |log10
    distance| between the step at which that separation has fallen half-way from its first to its smallest value and the step at
    which skill passes half of its final value, where both happen in every seed.
    """
    run.measure("skill_at_end", history[history["step"] == history["step"].max()]["skill"].to_numpy())
    steps = sorted(frame["step"].unique())
    skill = history.pivot_table(index="seed", columns="step", values="skill").sort_index()
    for mode, suffix in (("glued", ""), ("dot", "_dot")):
        curves = paired(*(separation(pick(frame, mode=mode, step=step)) for step in steps)).T
        run.measure(f"shuffled_separation_drop{suffix}", curves[:, 0] - curves[:, -1], unit="dimensions")
        distances = []
        for curve, skills in zip(curves, skill.to_numpy(), strict=True):
            fall = crossing(steps, curve, (curve[0] + curve.min()) / 2) if curve.min() < curve[0] else None
            rise = crossing(skill.columns.to_numpy(), skills, skills[-1] / 2) if skills[-1] >= 0.5 else None
            distances.append(None if fall is None or rise is None else abs(fall - rise))
        if all(d is not None for d in distances):
            run.measure(f"collapse_to_skill_distance{suffix}", [float(d) for d in distances if d is not None])
    dip = []
    for seed in sorted(frame["seed"].unique()):
        own = pick(frame[frame["seed"] == seed], mode="coherent", k=1).sort_values("step")["id"].to_numpy()
        dip.append(min(own[0], own[-1]) - own[1:-1].min() if len(own) > 2 else 0.0)
    run.measure("coherent_id_dip_k1", dip, unit="dimensions")


def measure_widths(run: Run[Settings], frame: pd.DataFrame) -> None:
    """C4 on coherent text, k = 1, mean over layers: exponents of log I_d and log d against log D, and Pearson's r of d and D, by
    seed, over the seeds that were trained at every width."""
    chosen = pick(frame, "mean", mode="coherent", k=1)
    chosen = chosen[chosen["step"] == chosen["step"].max()]
    exponents: dict[str, list[float]] = {"id": [], "d": [], "pr": []}
    correlations = []
    for _, own in chosen.groupby("seed"):
        if len(own) < chosen["width"].nunique():
            continue
        own = own.sort_values("width")
        for value, found in exponents.items():
            found.append(float(np.polyfit(np.log(own["width"]), np.log(own[value]), 1)[0]))
        correlations.append(float(np.corrcoef(own["width"], own["d"])[0, 1]))
    for value, found in exponents.items():
        run.measure(f"{value}_width_exponent", found, unit="1")
    run.measure("d_width_correlation", correlations, unit="correlation")


def surface_table(frame: pd.DataFrame, sizes: pd.DataFrame, layer: str = "last") -> pd.DataFrame:
    """C5's data sets: dimensions at the last step beside gzip bytes, for coherent and officially shuffled text."""
    chosen = pick(frame[frame["k"] > 0], layer, step=frame["step"].max())
    return chosen.merge(sizes, on=["mode", "k"])


def rank_correlations(table: pd.DataFrame) -> pd.DataFrame:
    """Spearman's ρ of I_d, d and PR with the gzip size over the data sets, by seed; n is the number of data sets."""
    return pd.DataFrame(
        [
            {
                "seed": seed,
                "n": len(own),
                **{
                    f"rho_{value}": float(stats.spearmanr(own[value], own["bytes"]).statistic)
                    if own[value].nunique() > 1
                    else math.nan
                    for value in ("id", "d", "pr")
                },
            }
            for seed, own in table.groupby("seed")
        ]
    )


PUBLISHED_CORRELATIONS = {
    "Pythia 14m": (128, -0.20, "0.90*"),
    "Pythia 70m": (512, -0.06, "0.47†"),
    "Pythia 160m": (768, -0.20, "-0.50†"),
    "Pythia 410m": (1024, -0.05, "0.96*"),
    "Pythia 1.4b": (2048, 0.04, "0.96*"),
    "Pythia 6.9b": (4096, 0.01, "0.92*"),
    "Pythia 12b": (5120, 0.05, "0.86*"),
    "Llama-3-8B": (4096, -0.36, "1.0*"),
    "Mistral-7B": (4096, 0.00, "1.0*"),
}
"""Table 1 of the paper: model → (width, ρ of I_d, ρ of d with its mark), known from a third-party summary of the ACL version; unverified."""


def correlation_table(run: Run[Settings], correlations: pd.DataFrame, model: str, width: int) -> pd.DataFrame:
    """Table 1 of the paper with a row of this run below it: mean over seeds and 95 % interval."""
    rows: list[dict[str, Any]] = [
        {"model": name, "width D": own[0], "ρ(I_d, gzip)": f"{own[1]:.2f}", "ρ(d, gzip)": own[2], "from": "paper (unverified)"}
        for name, own in PUBLISHED_CORRELATIONS.items()
    ]  # fmt: skip
    ours: dict[str, Any] = {"model": model, "width D": width}
    for column, name in (("ρ(I_d, gzip)", "rho_id_kc"), ("ρ(d, gzip)", "rho_d_kc")):
        m = run.measurements.get(name)
        ours[column] = "–" if m is None else interval_text(m, ".2f")
    rows.append(
        {**ours, "from": f"this run, {len(correlations)} seed(s), n = {int(correlations['n'].iloc[0])}"}
    )
    return pd.DataFrame(rows)


def measure_surface(run: Run[Settings], correlations: pd.DataFrame) -> None:
    """C5: rho_d_minus_abs_rho_id = ρ(d, gzip) − |ρ(I_d, gzip)| and its parts, by seed.

    A dimension that is the same for all data sets has no rank correlation; what needs it is not recorded then.
    """
    values = {
        "rho_d_minus_abs_rho_id": correlations["rho_d"] - correlations["rho_id"].abs(),
        "rho_d_kc": correlations["rho_d"],
        "rho_id_kc": correlations["rho_id"],
        "rho_pr_kc": correlations["rho_pr"],
    }
    for name, value in values.items():
        if value.notna().all():
            run.measure(name, value, unit="Spearman")


def measure_gzip(run: Run[Settings], sizes: pd.DataFrame, official: Mapping[str, int] | None) -> None:
    """C5b: smallest fall of the coherent size from k to k + 1; range of the coherent sizes minus range of the shuffled ones; and,
    with the official sizes, the largest relative error over the eight of them (released shuffle)."""
    coherent = sizes[sizes["mode"] == "coherent"].sort_values("k")["bytes"].to_numpy()
    shuffled = sizes[sizes["mode"] == "glued"]["bytes"].to_numpy()
    run.measure("gzip_bytes_k1", float(coherent[0]), unit="bytes")
    run.measure("gzip_smallest_coherent_step_in_k", float(-np.diff(coherent).max()), unit="bytes")
    run.measure(
        "gzip_coherent_minus_shuffled_range", float(np.ptp(coherent) - np.ptp(shuffled)), unit="bytes"
    )
    if official is not None:
        errors = [
            abs(row.bytes / official[kolmogorov.official_name(row.k, row.mode == "released")] - 1)
            for row in sizes.itertuples()
            if row.mode in ("coherent", "released")
        ]
        run.measure("gzip_largest_relative_error", max(errors))


def measure_skill(run: Run[Settings], zero_shot: pd.DataFrame | None) -> None:
    """C3b: Pythia 6.9b on lambada at step 3000, and its rise from 1000 to 3000 minus its rise from 0 to 1000."""
    if zero_shot is None:
        return
    own = zero_shot[(zero_shot["task"] == "lambada_openai") & (zero_shot["model_size"] == "6.9b")]
    accuracy = own.set_index("step")["acc"]
    run.measure("lambada_6p9b_step_3000", float(accuracy[3000]), unit="accuracy")
    rise = (accuracy[3000] - accuracy[1000]) - (accuracy[1000] - accuracy[0])
    run.measure("lambada_rise_after_minus_before_1000", float(rise), unit="accuracy")


def measure_lengths(run: Run[Settings], frame: pd.DataFrame) -> None:
    """C7: slope of coherent minus officially shuffled I_d at k = 1 (last layer) against the number of words, by seed."""
    last = frame.groupby("words")["layer"].transform("max") == frame["layer"]
    table = frame[last & (frame["k"] == 1)].pivot_table(index=["seed", "words"], columns="mode", values="id")
    gap = (table["coherent"] - table["glued"]).unstack("words")
    if gap.shape[1] < 2:
        return
    slopes = [float(np.polyfit(gap.columns.to_numpy(dtype=float), row, 1)[0]) for row in gap.to_numpy()]
    run.measure("id_gap_slope_with_length", slopes, unit="dimensions per word")


def measure_hub(run: Run[Settings], frame: pd.DataFrame, sizes: pd.DataFrame) -> None:
    """C3a, C5a, C8 and C9 from the hub models, means over layers, one value per split unless a claim is about models.

    pythia_collapse_log10_step: log10 of the step at which the shuffled separation has fallen half-way, one value per Pythia with
    steps. rho_*_pythia_6p9b: Spearman over the data sets. pile_*: official shuffle of The Pile's snippets, largest Pythia.
    rho_d_kc_other_families: the smaller of the correlations of Llama-3 and Mistral, by split.
    """
    collapse = []
    for _, own in frame[frame["k"] > 0].groupby("model"):
        steps = sorted(own["step"].unique())
        if len(steps) < 3:
            continue
        curve = [separation(pick(own, "mean", mode="glued", step=step)).mean() for step in steps]
        fall = crossing(steps, curve, (curve[0] + min(curve)) / 2)
        if fall is not None:
            collapse.append(fall)
    if collapse:
        run.measure("pythia_collapse_log10_step", collapse, unit="log10 steps")
    rho = {
        model: rank_correlations(surface_table(own, sizes, "mean")) for model, own in frame.groupby("model")
    }
    large = next((m for m in rho if "6.9b" in m), None)
    if large:
        run.measure("rho_d_kc_pythia_6p9b", rho[large]["rho_d"], unit="Spearman")
        run.measure("rho_id_kc_pythia_6p9b", rho[large]["rho_id"], unit="Spearman")
    others = [rho[m]["rho_d"].to_numpy() for m in rho if "Llama" in m or "Mistral" in m]
    if others:
        run.measure("rho_d_kc_other_families", np.min(others, axis=0), unit="Spearman")
    pile = frame[(frame["k"] == 0) & frame["model"].str.contains("pythia")]
    if len(pile):
        widest = pile[(pile["width"] == pile["width"].max()) & (pile["step"] == pile["step"].max())]
        sets = {mode: pick(widest, "mean", mode=mode) for mode in ("coherent", "glued")}
        gap = at_k(sets["coherent"], "id", 0) - at_k(sets["glued"], "id", 0)
        run.measure("pile_id_coherent_minus_shuffled", gap, unit="dimensions")
        rise = at_k(sets["glued"], "d", 0) - at_k(sets["coherent"], "d", 0)
        run.measure("pile_d_shuffled_minus_coherent", rise, unit="dimensions")


def reference_model(frame: pd.DataFrame) -> pd.DataFrame:
    """Of several hub models the one that is followed through training at most steps, the widest of those."""
    steps = frame.groupby("model").agg(steps=("step", "nunique"), width=("width", "max"))
    name = steps.sort_values(["steps", "width"]).index[-1]
    return frame[frame["model"] == name]
