"""Classifiers and the reward made of one."""

import pytest
import torch

from lib.ddpp.classifier import ClassReward, DigitClassifier, accuracy, shifted, train_classifier
from lib.ddpp.mnist import digit_task
from lib.profiles import ParameterError


@pytest.fixture(scope="module")
def task():
    return digit_task(None, 8)


@pytest.fixture(scope="module")
def trained(task):
    half = len(task.train) // 2
    pixels = task.pixels(task.train)
    return {
        "reward": train_classifier(pixels[:half], task.train_labels[:half], "reward", epochs=30),
        "judge": train_classifier(pixels[half:], task.train_labels[half:], "judge", epochs=30, seed=1),
    }


def test_both_learn_and_differ(task, trained):
    pixels = task.pixels(task.test)
    for model in trained.values():
        assert accuracy(model, pixels, task.test_labels) > 0.7  # a shift by a pixel is much at 8 x 8
        assert not any(p.requires_grad for p in model.parameters())
    first, second = (m(pixels).argmax(1) for m in trained.values())
    assert (first != second).any()  # two opinions, not one network twice


@pytest.mark.parametrize("side", [8, 14, 28])
@pytest.mark.parametrize("architecture", ["reward", "judge"])
def test_every_resolution_fits(side, architecture):
    model = DigitClassifier(side, architecture)
    pixels = torch.rand(3, 1, side, side)
    assert model(pixels).shape == (3, 10)
    assert torch.equal(model.head(model.features(pixels)), model(pixels))


def test_training_is_repeatable_and_leaves_the_global_state(task):
    pixels, labels = task.pixels(task.train[:200]), task.train_labels[:200]
    state = torch.get_rng_state()
    first, second = (train_classifier(pixels, labels, "reward", epochs=1, seed=3) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values()))


def test_shifts_move_whole_images_by_at_most_one_pixel():
    pixels = torch.zeros(60, 1, 8, 8)
    pixels[:, 0, 4, 4] = 1.0
    moved = shifted(pixels, torch.Generator().manual_seed(0))
    places = {tuple(p) for p in moved[:, 0].nonzero()[:, 1:].tolist()}
    assert moved.sum() == 60
    assert places <= {(y, x) for y in (3, 4, 5) for x in (3, 4, 5)}
    assert len(places) > 5


def test_reward_is_the_power_of_the_summed_probability(task, trained):
    clean = task.test[:50]
    reward = ClassReward(trained["reward"], (0, 2, 4, 6, 8), 2, exponent=5.0)
    probability = trained["reward"](task.pixels(clean)).softmax(1)[:, ::2].sum(1)
    assert torch.allclose(reward.log_reward(clean), probability.log(), atol=1e-5)
    assert torch.allclose(reward(clean), (probability**5).log(), atol=1e-4)


def test_one_hots_give_the_same_value_and_a_gradient(task, trained):
    clean = task.test[:20]
    reward = ClassReward(trained["reward"], (3,), 2)
    onehot = torch.nn.functional.one_hot(clean, 2).float().requires_grad_(True)
    value = reward.log_reward_of_onehot(onehot)
    assert torch.allclose(value, reward.log_reward(clean), atol=1e-5)
    value.sum().backward()
    assert onehot.grad.abs().sum() > 0
    assert not onehot.grad[..., 0].any()  # no ink, no influence


def test_log_reward_is_floored(trained):
    class Certain(DigitClassifier):
        def forward(self, pixels):
            logits = torch.full((len(pixels), 10), -1e4)
            logits[:, 0] = 0.0
            return logits

    reward = ClassReward(Certain(8, "reward"), (1,), 2, floor=-30.0)
    assert reward.log_reward(torch.zeros(2, 64, dtype=torch.long)).tolist() == [-30.0, -30.0]


def test_wrong_requests():
    with pytest.raises(ParameterError, match="architecture='lenet'"):
        DigitClassifier(8, "lenet")
    with pytest.raises(ValueError, match="target="):
        ClassReward(DigitClassifier(8, "reward"), (), 2)
    with pytest.raises(ValueError, match="target="):
        ClassReward(DigitClassifier(8, "reward"), (11,), 2)
    with pytest.raises(ValueError, match="0 images"):
        train_classifier(torch.zeros(0, 1, 8, 8), torch.zeros(0), "reward", epochs=1)
