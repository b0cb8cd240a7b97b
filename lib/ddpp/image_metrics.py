"""How good samples are: Fréchet distance, feature likelihood divergence, class histogram; all on features (N, d) of a judge."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def _check(*features: Tensor) -> None:
    widths = {f.shape[1] if f.ndim == 2 else -1 for f in features}
    if len(widths) != 1 or -1 in widths or min(len(f) for f in features) < 2:
        raise ValueError(f"features must be (N >= 2, d) with one d, got {[tuple(f.shape) for f in features]}")
    if not all(bool(torch.isfinite(f).all()) for f in features):
        raise ValueError("features must be finite")


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Squared Fréchet (2-Wasserstein) distance of the Gaussians with the moments of two sets of features.

    ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁^½ Σ₂ Σ₁^½)^½), in float64. It is biased upwards by about d/N, so only sets of equal size
    should be compared.

    Args:
        first, second: (N, d) and (M, d).

    Raises:
        ValueError: for other shapes, fewer than two rows, or features that are not finite.
    """
    _check(first, second)
    a, b = first.double(), second.double()
    cov_a, cov_b = torch.cov(a.T).view(a.shape[1], -1), torch.cov(b.T).view(b.shape[1], -1)
    values, vectors = torch.linalg.eigh(cov_a)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T  # Σ₁^½
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    mean = (a.mean(0) - b.mean(0)).square().sum()
    return max(0.0, float(mean + cov_a.trace() + cov_b.trace() - 2 * cross))


def mixture_log_likelihood(squared: Tensor, log_variance: Tensor, dim: int) -> Tensor:
    """log (1/m) Σ_j N(x; c_j, σ_j² I) for points given by their squared distances (N, m) to the centres.

    Args:
        squared: ‖x_i − c_j‖². log_variance: log σ_j², (m,). dim: d.
    """
    logs = -0.5 * squared / log_variance.exp() - 0.5 * dim * (log_variance + math.log(2 * math.pi))
    return logs.logsumexp(1) - math.log(squared.shape[1])


def fit_log_variances(centres: Tensor, points: Tensor, steps: int = 50, learning_rate: float = 0.5) -> Tensor:
    """One variance per centre, by maximum likelihood of ``points`` under the mixture and a broad background component.

    Starts at the squared distance to the nearest point over d. The background, a Gaussian around the points' mean with a variance of its own,
    only keeps far points from ruling the fit; it takes no part in the likelihoods that are reported.

    Args:
        centres: (m, d). points: (N, d).

    Returns:
        log σ², (m,), in [−40, 20].
    """
    dim = centres.shape[1]
    squared = torch.cdist(points, centres).square()  # (N, m)
    far = 0.81 * (points - points.mean(0)).square().sum(1)  # the background is drawn nearer by 0.9
    log_variance = ((squared.min(0).values + 1e-3) / dim).log().requires_grad_(True)
    background = torch.zeros((), dtype=points.dtype, device=points.device, requires_grad=True)
    optimiser = torch.optim.Adam([log_variance, background], lr=learning_rate)
    for _ in range(steps):
        inside = mixture_log_likelihood(squared, log_variance, dim)
        outside = -0.5 * far / background.exp() - 0.5 * dim * (background + math.log(2 * math.pi))
        loss = -torch.logaddexp(inside, outside).mean() / dim
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            log_variance.clamp_(-40.0, 20.0)
    return log_variance.detach()


def feature_likelihood_divergence(
    train: Tensor, test: Tensor, generated: Tensor, seed: int = 0, max_centres: int = 10_000
) -> float:
    """FLD (Jiralerspong et al., NeurIPS 2023): 100 × (negative log-likelihood per dimension of test features, minus a reference).

    Gaussians around the generated features, with variances fitted on the training features, score the test features; a sample
    that copies a training image gets a tiny variance and scores nothing. The reference has its centres at one half of the training
    features and its variances from the other half: near 0 is as good as real data, lower is better.

    Args:
        train, test, generated: features (·, d); normalised here to mean 0 and deviation 1 of the test features.

    Raises:
        ValueError: for shapes that do not fit or features that are not finite.
    """
    _check(train, test, generated)
    mean, deviation = test.double().mean(0), test.double().std(0).clamp_min(1e-12)
    train, test, generated = ((f.double() - mean) / deviation for f in (train, test, generated))
    generator = torch.Generator().manual_seed(seed)
    pick = torch.randperm(len(generated), generator=generator)[:max_centres]
    generated = generated[pick.to(generated.device)]
    order = torch.randperm(len(train), generator=generator).to(train.device)
    half = min(len(generated), len(train) // 2)

    def nll(centres: Tensor, points: Tensor) -> float:
        log_variance = fit_log_variances(centres, points)
        dim = centres.shape[1]
        return -float(
            mixture_log_likelihood(torch.cdist(test, centres).square(), log_variance, dim).mean() / dim
        )

    return 100.0 * (nll(generated, train) - nll(train[order[:half]], train[order[half:]]))


def class_histogram(classes: Tensor, n_classes: int = 10) -> list[float]:
    """Share of each class among ``classes`` (N,) int64.

    Raises:
        ValueError: if there is none.
    """
    if len(classes) == 0:
        raise ValueError("class_histogram needs at least one sample")
    return (torch.bincount(classes.cpu(), minlength=n_classes).double() / len(classes)).tolist()
