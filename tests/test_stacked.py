"""A stack of trainings computes what separate trainings compute."""

from __future__ import annotations

from typing import Any

import lightning
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lib.stacked import SideBySide, Stack, StackedModule, clip_by_member
from lib.training import plain_trainer

STEPS, BATCH, LENGTH, VOCABULARY = 12, 4, 6, 5
CLIP = 0.7  # small enough to act, and on some members only


class Reader(lightning.LightningModule):
    """Predicts the next token from the last three; a piece of everything: look-up, convolution, norm, shared weights, a buffer."""

    def __init__(self, width: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.convolution = nn.Conv1d(width, width, 3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, VOCABULARY, bias=False)
        self.head.weight = self.embedding.weight
        self.frozen = nn.Parameter(torch.randn(VOCABULARY), requires_grad=False)
        self.register_buffer("temperature", torch.rand(()) + 0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens).transpose(1, 2)  # (B, d, T)
        x = self.convolution(F.pad(x, (2, 0))).transpose(1, 2)
        x = self.dropout(F.gelu(self.hidden(self.norm(x))))
        return (self.head(x) + self.frozen) / self.temperature

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        tokens, targets = batch
        return F.cross_entropy(self(tokens).flatten(0, 1), targets.flatten(), ignore_index=-1)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        return self.loss(batch)

    def configure_optimizers(self) -> Any:
        held = list(self.hidden.parameters())
        rest = [p for p in self.parameters() if p.requires_grad and all(p is not h for h in held)]
        groups = [{"params": held, "weight_decay": 0.0}, {"params": rest, "weight_decay": 0.1}]
        optimiser = torch.optim.AdamW(groups, lr=0.02)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, (step + 1) / 4))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def readers(n: int = 3, **options: Any) -> list[Reader]:
    made = []
    for seed in range(n):
        torch.manual_seed(seed)
        made.append(Reader(**options).double())
    with torch.no_grad():
        made[-1].embedding.weight.mul_(20)  # a member whose gradients are clipped harder than the others'
    return made


def stream(seed: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(VOCABULARY, (STEPS, BATCH, LENGTH + 1), generator=generator)
    return [(t[:, :-1], t[:, 1:].where(t[:, 1:] > 0, -1)) for t in tokens]


def train(module: lightning.LightningModule, data: Any) -> None:
    trainer = plain_trainer(torch.device("cpu"), max_steps=STEPS, gradient_clip=CLIP)
    trainer.fit(module, DataLoader(data, batch_size=None))


def test_a_stack_equals_separate_trainings() -> None:
    alone = readers()
    for seed, member in enumerate(alone):
        train(member, stream(seed))
    together = StackedModule(readers())
    train(together, SideBySide([stream(seed) for seed in range(3)]))
    before = [dict(m.named_parameters()) for m in readers()]
    for i, member in enumerate(alone):
        found = together.stack.member(i)
        assert type(found) is Reader
        assert found.head.weight is found.embedding.weight
        for name, wanted in member.state_dict().items():
            torch.testing.assert_close(found.state_dict()[name], wanted, rtol=1e-9, atol=1e-11)
        assert float((member.hidden.weight - before[i]["hidden.weight"]).detach().abs().max()) > 0.01


def test_members_do_not_see_each_other() -> None:
    module = StackedModule(readers())
    batch = next(iter(SideBySide([stream(seed) for seed in range(3)])))
    module.member_losses(batch)[1].backward()
    gradients = [p.grad for p in module.parameters() if p.requires_grad]
    assert all(g is not None and not g[0].any() and not g[2].any() for g in gradients)
    assert all(g is not None and g[1].any() for g in gradients)


def test_each_computes_what_a_member_computes() -> None:
    members = readers()
    stack = Stack(members)
    tokens = torch.stack([stream(seed)[0][0] for seed in range(3)])
    wanted = torch.stack([m(t) for m, t in zip(members, tokens, strict=True)])
    torch.testing.assert_close(stack(tokens), wanted)
    both = stack.each(lambda m, own: (m(own["x"]).mean(), m.temperature), {"x": tokens})
    torch.testing.assert_close(both[0], wanted.mean((1, 2, 3)))
    assert both[1].tolist() == [float(m.temperature) for m in members]
    assert sum(p.numel() for p in stack.parameters()) == sum(
        p.numel() for m in members for p in m.parameters()
    )


def test_a_stack_leaves_its_members_alone_and_gives_copies() -> None:
    members = readers()
    stack = Stack(members)
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.zero_()
        stack.member(0).hidden.weight.add_(1.0)
    assert all(m.hidden.weight.any() for m in members)
    assert not any(p.any() for p in stack.parameters())
    assert not stack.member(1).frozen.requires_grad
    with pytest.raises(IndexError, match="no member 3"):
        stack.member(3)


def test_dropout_differs_between_members_and_is_off_in_evaluation() -> None:
    same = [readers(1, dropout=0.5)[0] for _ in range(2)]
    stack = Stack(same)
    tokens = stream(0)[0][0].expand(2, -1, -1)
    one, other = stack(tokens)
    assert not torch.equal(one, other)
    one, other = stack.eval()(tokens)
    torch.testing.assert_close(one, other)


def test_what_is_no_stack_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one member"):
        Stack([])
    with pytest.raises(ValueError, match="member 1 of a stack has another architecture"):
        Stack([Reader(8), Reader(16)])
    with pytest.raises(ValueError, match="member 2 of a stack has another architecture"):
        Stack([nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2, bias=False)])
    frozen = nn.Linear(2, 2).requires_grad_(False)
    for one, other in (
        (nn.Dropout().train(), nn.Dropout().eval()),
        (nn.Dropout(0.1), nn.Dropout(0.2)),
        (nn.Linear(2, 2), frozen),
    ):
        with pytest.raises(ValueError, match="another architecture or mode"):
            Stack([one, other])
    with pytest.raises(ValueError, match="shorter"):
        list(SideBySide([[torch.zeros(1)] * 2, [torch.zeros(1)]]))


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    members = readers()
    with torch.no_grad():
        members[1].hidden.weight.fill_(torch.nan)
    with pytest.raises(
        FloatingPointError, match=r"a loss of Reader is not finite at step 0: \[\d.*, nan, \d"
    ):
        train(StackedModule(members), SideBySide([stream(seed) for seed in range(3)]))


def test_clipping_is_by_member() -> None:
    p = [nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))]
    p[0].grad, p[1].grad = torch.tensor([[3.0, 0, 0], [0.03, 0, 0]]), torch.tensor([4.0, 0.04])
    clip_by_member(p, 1.0)  # the third has no gradient
    torch.testing.assert_close(p[0].grad, torch.tensor([[0.6, 0, 0], [0.03, 0, 0]]))
    torch.testing.assert_close(p[1].grad, torch.tensor([0.8, 0.04]))
    clip_by_member(p[2:], 1.0)
    with pytest.raises(ValueError, match="clips norms"):
        StackedModule(readers()).configure_gradient_clipping(torch.optim.SGD(p), 1.0, "value")
