"""A stack of seeds computes what separate trainings compute."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lib.minrnn.seed_stack import SeedStack, StackedBatches, stack_modules, stackable
from lib.minrnn.selective_copying import VOCABULARY, CopyingSettings, copying_data
from lib.minrnn.token_model import Architecture, Optimisation, TokenModel, train_tokens

STEPS = 5
SIZES = CopyingSettings(batch=4, length=8, data_tokens=3, evaluation_sequences=16)


def members(mixer: str, clip: float) -> list[TokenModel]:
    models = []
    for seed, bias in ((0, 0.0), (1, 2.0), (2, -1.0)):
        torch.manual_seed(seed)
        options = {
            "min_gru": (("gate_bias", bias),),
            "min_lstm": (("normalised", False), ("forget_bias", bias)),
        }
        architecture = Architecture(mixer, 2, 8, 2.0, mlp="geglu", options=options.get(mixer, ()))
        models.append(TokenModel(VOCABULARY, architecture, Optimisation(STEPS, 1e-2, 2, clip=clip)))
    return models


@pytest.mark.parametrize("mixer", ["min_gru", "min_lstm"])
def test_stack_equals_separate_trainings(mixer: str, tmp_path: Path) -> None:
    run = SimpleNamespace(device=torch.device("cpu"), out_dir=tmp_path, checkpoint_every=None)
    clip = 0.3  # small enough to act, and to differ between members
    data = [copying_data(SIZES, seed) for seed in range(3)]
    alone = [
        train_tokens(run, model, own, name=f"alone{i}", job=i, evaluate_every=1)[0]
        for i, (model, own) in enumerate(zip(members(mixer, clip), data, strict=True))
    ]
    data = [copying_data(SIZES, seed) for seed in range(3)]
    stack = SeedStack(members(mixer, clip))
    together = train_tokens(run, stack, StackedBatches(data), name="stack", job=(), evaluate_every=1)
    assert len({round(h.loss[-1], 6) for h in alone}) == 3
    for one, other in zip(alone, together, strict=True):
        assert one.steps == other.steps == list(range(1, STEPS + 1))
        assert one.loss == pytest.approx(other.loss, abs=2e-4)
        assert one.loss[0] != pytest.approx(one.loss[-1], abs=2e-3)


def test_members_do_not_see_each_other() -> None:
    stack = SeedStack(members("min_gru", 1.0))
    data = [copying_data(SIZES, seed) for seed in range(3)]
    tokens, targets = StackedBatches(data).evaluation[0]
    losses = stack.member_losses((tokens, targets))
    losses[1].backward()
    for parameter in stack.parameters():
        assert parameter.grad is not None
        assert parameter.grad[0].abs().max() == 0
        assert parameter.grad[2].abs().max() == 0
    assert max(float(p.grad[1].abs().max()) for p in stack.parameters() if p.grad is not None) > 0


def test_what_cannot_be_stacked_is_refused_by_name() -> None:
    models = [TokenModel(VOCABULARY, Architecture("s6", 1, 8), Optimisation(1, 1e-3)) for _ in range(2)]
    assert not stackable(models[0])
    assert stackable(members("min_gru", 1.0)[0])
    with pytest.raises(TypeError, match="cannot be stacked"):
        stack_modules(models)
    with pytest.raises(ValueError, match="at least one member"):
        SeedStack([])
