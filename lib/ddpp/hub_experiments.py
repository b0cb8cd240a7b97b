"""The paper's experiments on proteins and on reviews (profile ``paper``): models of the hub, all methods, the ledger's metrics (Tables 3–5).

A model, a package or a file that is missing leaves an experiment out with a visible notice. The toxicity task is not shipped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lib.by_seed import BySeed, best, mean_by_seed
from lib.checkpoints import keeping
from lib.datasets import DataError
from lib.ddpp.dit import DiT, DiTLogZ
from lib.ddpp.hub_models import (
    Fold,
    Folder,
    FoldReward,
    ReviewReward,
    generative_perplexity,
    load_mdlm,
    load_protein_denoiser,
)
from lib.ddpp.inference_steering import best_of_n, svdd
from lib.ddpp.masked_diffusion import pretrain
from lib.ddpp.profiles import Settings
from lib.ddpp.proteins import (
    FoldProperties,
    composition_entropy,
    dssp_codes,
    exposed_hydrophobic_share,
    read_pdb,
    residue_surface,
    sheet_log_reward,
    sheet_share,
    shrinking_log_reward,
    tm_score,
)
from lib.ddpp.rewards import Reward
from lib.ddpp.samplers import sample
from lib.ddpp.steering import steer
from lib.hub import load_tokenizer
from lib.plain_files import read_bytes, read_text
from lib.records import Run

Result = TypeVar("Result")
PARTICLES = 10
PROTEIN_METHODS = ("base", "best_of_n", "svdd", "rtb", "lb")
REVIEW_METHODS = ("best_of_n", "svdd", "rtb", "is", "lb")
SHEET_EXPONENT, SHRINKING_EXPONENT, REVIEW_EXPONENT = 8.0, 1000.0, 2.0  # 1/β of §4.4 and §4.5
PROTEIN_OPTIONS: dict[str, dict[str, Any]] = {
    "lb": {"learning_rate": 1e-5, "batch_size": 16, "warm_up": 2500},
    "rtb": {"learning_rate": 1e-5, "batch_size": 8, "detached": 0.65, "log_z_rate": 0.1},
}
REVIEW_OPTIONS: dict[str, dict[str, Any]] = {
    "lb": {"learning_rate": 1e-4, "batch_size": 16, "log_z_warm_up": 1500, "ema_decay": 0.9999},
    "is": {"learning_rate": 1e-4, "batch_size": 16, "completions": 16, "ema_decay": 0.9999},
    "rtb": {"learning_rate": 5e-5, "batch_size": 4, "detached": 0.785, "log_z_rate": 0.1},
}


def or_notice(run: Run[Settings], experiment: str, function: Callable[[], Result]) -> Result | None:
    """The experiment's result, or None with a visible notice where something it needs cannot be had.

    Raises:
        DataError: with ``data="real"``, in place of the notice.
    """
    try:
        return function()
    except DataError as error:
        if run.data == "real":
            raise
        notice = f"NOTICE: {experiment} left out: {error}"
        run.notices.append(notice)
        print(notice)
        return None


def samples_of(
    run: Run[Settings],
    name: str,
    prior: Any,
    reward: Reward,
    method: str,
    seed: int,
    n: int,
    *,
    tuning_steps: int,
    sampling_steps: int,
    refill_every: int,
    options: dict[str, dict[str, Any]],
    log_z_model: nn.Module | None = None,
    job: Any = (),
) -> Tensor:
    """Clean samples (n, tokens) of one method at its last step: base model, Best-of-10, SVDD, or a tuned model.

    Args:
        job: what a tuning depends on beside the settings and the prior, for its checkpoints.
    """
    generator = torch.Generator(run.device).manual_seed(seed)
    draw: dict[str, Any] = {"generator": generator, "steps": sampling_steps, "batch_size": 64}
    if method == "base":
        return sample(prior, n, **draw)
    if method == "best_of_n":
        pool = sample(prior, PARTICLES * n, **draw)
        return best_of_n(pool, reward.log_reward(pool), PARTICLES)
    if method == "svdd":
        guided = svdd(
            prior,
            reward,
            n,
            particles=PARTICLES,
            steps=sampling_steps,
            generator=generator,
            batch_size=64,
        )
        return guided.tokens
    tuned = steer(
        prior,
        reward,
        method,
        seed=seed,
        device=run.device,
        log_z_model=log_z_model if method == "lb" else None,
        keep=keeping(run, f"{name}-{method}-{seed}", (method, seed, job), run.settings.checkpoint_every),
        steps=tuning_steps,
        sampling_steps=sampling_steps,
        refill_every=refill_every,
        refill_size=64,
        **options[method],
    )
    return sample(tuned.denoiser, n, **draw)


# --- proteins -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ProteinRow:
    """Means over one seed's samples. ``task``: ``sheet``, or the name of the protein that is shrunk. ``measure``: sheet share or TM-score."""

    task: str
    method: str
    seed: int
    log_reward: float
    measure: float
    plddt: float
    ptm: float


def fold_properties(fold: Fold) -> FoldProperties:
    """What Table 3 rewards, of a predicted fold.

    Raises:
        DataError: if biotite or mkdssp is missing.
    """
    atoms = read_pdb(fold.pdb)
    return FoldProperties(
        fold.ptm,
        fold.plddt,
        sheet_share(dssp_codes(atoms)),
        composition_entropy(fold.sequence),
        exposed_hydrophobic_share(fold.sequence, residue_surface(atoms)),
    )


def read_target(path: Path) -> tuple[str, np.ndarray]:
    """Sequence and Cα positions (n, 3) of the first chain of a PDB file.

    Raises:
        DataError: if the file cannot be read or holds no protein, or biotite is missing.
    """
    atoms = read_pdb(read_text(path, DataError), path.name)
    from biotite.sequence import ProteinSequence

    chain = atoms[(atoms.chain_id == atoms.chain_id[0]) & (atoms.atom_name == "CA") & ~atoms.hetero]
    if len(chain) < 3:
        raise DataError(f"{path.name} holds no protein chain")
    try:
        letters = "".join(ProteinSequence.convert_letter_3to1(name) for name in chain.res_name)
    except KeyError as error:
        raise DataError(f"{path.name}: residue {error} is no amino acid") from error
    return letters, chain.coord


def protein_experiment(
    run: Run[Settings],
    folder: Callable[[str], Fold],
    measures: dict[str, tuple[Callable[[Fold], float], Callable[[float, Fold], float], float]],
) -> list[ProteinRow]:
    """Every method on every protein task, three seeds.

    Args:
        folder: sequence → fold. measures: task → (what is measured of a fold, log R from that measure and the fold, exponent).
    """
    s = run.settings
    prior = load_protein_denoiser(s.hub_protein_model, s.hub_protein_length, run.device)
    shrunk = [read_bytes(Path(name), DataError) for name in s.hub_shrink_targets]
    known: dict[str, Fold] = {}

    def fold(sequence: str) -> Fold:
        if sequence not in known:
            known[sequence] = folder(sequence)
        return known[sequence]

    rows = []
    for task, (measure, score, exponent) in measures.items():
        found: dict[str, float] = {}

        def measured(
            f: Fold, found: dict[str, float] = found, measure: Callable[[Fold], float] = measure
        ) -> float:
            if f.sequence not in found:
                found[f.sequence] = measure(f)
            return found[f.sequence]

        def score_of(
            f: Fold,
            measured: Callable[[Fold], float] = measured,
            score: Callable[[float, Fold], float] = score,
        ) -> float:
            return score(measured(f), f)

        reward = FoldReward(fold, score_of, exponent)
        for method in PROTEIN_METHODS:
            for seed in run.seeds(s.hub_seeds):
                tokens = samples_of(
                    run, f"protein-{task}", prior, reward, method, seed, s.hub_protein_samples,
                    tuning_steps=s.hub_protein_steps, sampling_steps=500, refill_every=250, options=PROTEIN_OPTIONS,
                    log_z_model=DiTLogZ(prior.n_tokens, prior.n_symbols, seed=seed), job=shrunk,
                )  # fmt: skip
                scores = reward.log_reward(tokens)
                folds = [fold(sequence) for sequence in reward.letters(tokens)]
                means = [
                    float(np.mean(v))
                    for v in zip(*((measured(f), f.plddt, f.ptm) for f in folds), strict=True)
                ]
                rows.append(ProteinRow(task, method, seed, float(scores.mean()), *means))
    return rows


def hub_protein_rows(run: Run[Settings]) -> list[ProteinRow]:
    """The experiment with ESMFold: sheets, and every protein to shrink whose PDB file is given.

    Raises:
        DataError: for a model, package, program or file that is missing.
    """
    s = run.settings
    folder = Folder(s.hub_folding_model, run.device)
    properties: dict[str, FoldProperties] = {}

    def of(fold: Fold) -> FoldProperties:
        if fold.sequence not in properties:
            properties[fold.sequence] = fold_properties(fold)
        return properties[fold.sequence]

    measures: dict[str, Any] = {
        "sheet": (
            lambda fold: of(fold).sheet_share,
            lambda _, fold: sheet_log_reward(of(fold)),
            SHEET_EXPONENT,
        )
    }
    for name in s.hub_shrink_targets:
        letters, positions = read_target(Path(name))
        measures[Path(name).stem] = (
            lambda fold, xyz=positions, seq=letters: tm_score(fold.alpha_carbons, fold.sequence, xyz, seq),
            lambda score, _: shrinking_log_reward(score),
            SHRINKING_EXPONENT,
        )
    return protein_experiment(run, folder, measures)


def _by_seed(rows: Sequence[Any], method: str, field: str) -> BySeed:
    """One value per seed, the mean over tasks."""
    return mean_by_seed(
        (r for r in rows if r.method == method), lambda r: getattr(r, field), f"row of {method!r}"
    )


def measure_proteins(run: Run[Settings], rows: Sequence[ProteinRow]) -> None:
    """C6a from the rows of ``sheet``; C6b from all other tasks, their mean; one value per seed."""
    sheet = [r for r in rows if r.task == "sheet"]
    shrink = [r for r in rows if r.task != "sheet"]
    if sheet:
        lb = _by_seed(sheet, "lb", "log_reward")
        others = {m: _by_seed(sheet, m, "log_reward") for m in PROTEIN_METHODS if m != "lb"}
        run.measure("dplm_sheet_log_reward_lb", lb, unit="log R")
        run.measure("dplm_sheet_log_reward_lb_minus_best", lb - others[best(others)], unit="log R")
        for field, name in (("measure", "sheet_share"), ("plddt", "plddt")):
            gain = _by_seed(sheet, "lb", field) - _by_seed(sheet, "base", field)
            run.measure(f"dplm_{name}_lb_minus_base", gain)
    if shrink:
        lb = _by_seed(shrink, "lb", "measure")
        run.measure("dplm_shrink_tm_lb", lb, unit="TM-score")
        for method, name in (("rtb", "rtb"), ("best_of_n", "best_of_10")):
            run.measure(
                f"dplm_shrink_tm_lb_minus_{name}", lb - _by_seed(shrink, method, "measure"), unit="TM-score"
            )


# --- reviews ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReviewRow:
    """Means over one seed's samples: log p(one star), and perplexity by the causal model."""

    method: str
    seed: int
    log_reward: float
    perplexity: float


def encode_reviews(path: Path, tokenizer: Any, length: int) -> Tensor:
    """Tokens (N, length) int64 of a text file with one review per line, cut or filled with the end token.

    Raises:
        DataError: if the file cannot be read or holds no line.
    """
    lines = [line for line in read_text(path, DataError).splitlines() if line.strip()]
    if not lines:
        raise DataError(f"{path.name} holds no review")
    end = tokenizer.eos_token_id
    rows = [(tokenizer(line)["input_ids"] + [end] * length)[:length] for line in lines]
    return torch.tensor(rows, dtype=torch.long)


def hub_review_rows(run: Run[Settings]) -> list[ReviewRow]:
    """Supervised fine-tuning of MDLM on the given reviews (§4.5), then every method towards one star.

    Raises:
        DataError: for a model or file that is missing.
    """
    s = run.settings
    tokenizer = load_tokenizer(s.hub_language_model)

    def decode(tokens: Tensor) -> list[str]:
        return tokenizer.batch_decode(tokens.cpu(), skip_special_tokens=True)

    reviews = encode_reviews(Path(s.hub_review_file), tokenizer, s.hub_review_length)
    reward = ReviewReward(s.hub_review_classifier, decode, run.device, REVIEW_EXPONENT)
    released: DiT = load_mdlm(s.hub_text_model, s.hub_review_length, run.device)
    prior = pretrain(
        released,
        reviews,
        steps=s.hub_review_pretrain_steps,
        batch_size=16,
        learning_rate=4e-3,
        ema_decay=0.99,
        seed=run.seed,
        device=run.device,
        keep=keeping(run, "reviews-prior", (), s.checkpoint_every),
    )
    rows = []
    for method in REVIEW_METHODS:
        for seed in run.seeds(s.hub_seeds):
            tokens = samples_of(
                run, "reviews", prior, reward, method, seed, s.hub_review_samples, tuning_steps=s.hub_review_steps,
                sampling_steps=64, refill_every=5, options=REVIEW_OPTIONS,
                log_z_model=DiTLogZ(s.hub_review_length, released.n_symbols, seed=seed),
            )  # fmt: skip
            fluency = generative_perplexity(s.hub_language_model, decode(tokens), run.device)
            rows.append(ReviewRow(method, seed, float(reward.log_reward(tokens).mean()), fluency))
    return rows


def measure_reviews(run: Run[Settings], rows: Sequence[ReviewRow]) -> None:
    """C7a: log reward of LB minus that of the best of Best-of-10, SVDD and RTB, one value per seed."""
    baselines = {m: _by_seed(rows, m, "log_reward") for m in ("best_of_n", "svdd", "rtb")}
    run.measure(
        "reviews_log_reward_lb_minus_best_baseline",
        _by_seed(rows, "lb", "log_reward") - baselines[best(baselines)],
        unit="log probability",
    )
