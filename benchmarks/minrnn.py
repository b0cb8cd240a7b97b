"""Speed of the linear scan, of minGRU and minLSTM, side by side with peers on the same inputs.

    python benchmarks/minrnn.py --out benchmarks/results/minrnn.json [--quick]
    python benchmarks/minrnn.py --out benchmarks/results/minrnn.gpu.json --gpu-rows

Each row is the peer's time divided by ours, above 1 this collection is faster; rows against a memory copy are the
share of the copy's bandwidth that is reached. Peer and ours run in turn; the ratio is the median over the turns, its
interval the distribution-free 95 % interval of a median (order statistics; the range where there are too few turns);
a bar is met where the whole interval lies at or above it. A copy writes into memory that is there, and so does what is
compared with it.
What computes the same is compared before it is timed. One CPU thread; --gpu-rows measures the rows of the Triton kernels on a CUDA
GPU and nothing else (with --device cpu and TRITON_INTERPRET=1 the same lines run without one, as a rehearsal).
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lib.cores import limit_threads
from lib.minrnn import numba_scan
from lib.minrnn.efficiency import ready_copy
from lib.minrnn.mixers import GRU, LSTM, S6, MinGRU, MinLSTM, StepGRU
from lib.minrnn.scan import gated_scan, linear_scan, min_gru_scan
from lib.publishing.benchmark import (
    Report,
    Work,
    add_gpu_options,
    benchmark_parser,
    check_device,
    check_equal,
    installed,
    median_seconds,
)
from lib.records import device_name


def forward_backward(layer: nn.Module, x: Tensor) -> Work:
    """One training step's work of a layer on x (B, T, d), the loss over all steps."""

    def work() -> None:
        y = layer(x)
        y = y[0] if isinstance(y, tuple) else y
        y.square().sum().backward()

    return work


# --- CPU ----------------------------------------------------------------------------------------------------------


def scan_operands(batch: int, steps: int, channels: int, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Positive decays and inputs (B, T, D) of a minGRU at random pre-activations."""
    k, v = torch.randn(2, batch, steps, channels, device=device).unbind(0)
    return torch.sigmoid(-k), torch.sigmoid(k) * (v.abs() + 0.5)


def compare_scans(report: Report, shapes: list[tuple[int, int, int]]) -> None:
    """The bare recurrence, forward: against the peer's log-space scan, torch's generic scan, and a copy.

    Scans make a new tensor for their states, on both sides of a row. A copy is the limit only where neither side does.
    """
    found = installed("minGRU_pytorch.minGRU", "minGRU-pytorch")
    from torch._higher_order_ops.associative_scan import associative_scan

    def compose(left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return left[0] * right[0], right[0] * left[1] + right[1]

    for shape in shapes:
        a, b = scan_operands(*shape)
        log_a, log_b = a.log(), b.log()
        name = str(shape)
        turns = min(report.turns, 7) if shape[1] > 1024 else None

        def ours(a: Tensor = a, b: Tensor = b) -> Tensor:
            return linear_scan(a, b)

        def generic(a: Tensor = a, b: Tensor = b) -> Tensor:
            return associative_scan(compose, (a, b), dim=1, combine_mode="generic")[1]

        if found:
            scan = found[0].heinsen_associative_scan_log
            check_equal(
                "minGRU-pytorch scan", scan(log_a, log_b), ours(), 1e-2
            )  # its own float32 error at T = 4096
            report.compare(
                "scan, forward",
                "minGRU-pytorch, log-space scan",
                found[1],
                name,
                ours,
                lambda scan=scan, log_a=log_a, log_b=log_b: scan(log_a, log_b),
                50.0,
                turns=turns,
            )
        check_equal("torch associative_scan", generic(), ours(), 1e-5)
        report.compare(
            "scan, forward",
            "torch associative_scan, generic, eager",
            torch.__version__,
            name,
            ours,
            generic,
            30.0,
            turns=turns,
        )
        h = torch.zeros_like(b)

        def into_ready_memory(a: Tensor = a, b: Tensor = b, h: Tensor = h) -> Tensor:
            return numba_scan.scan(a, b, None, out=h)

        check_equal("scan into ready memory", into_ready_memory(), ours(), 0.0)
        report.compare(
            "scan, forward, into ready memory",
            "memory copy of the same bytes",
            torch.__version__,
            name,
            into_ready_memory,
            ready_copy(3 * a.numel() // 2, a.device),  # a copy of 1.5 N moves the scan's 12 N bytes
            0.5,
        )


def compare_layers(report: Report, batch: int, steps: int, width: int) -> None:
    """Whole layers, forward and backward, in the same shape d → d → d."""
    x = torch.randn(batch, steps, width, requires_grad=True)
    shape = f"B = {batch}, T = {steps}, d = {width}"
    ours: dict[str, nn.Module] = {"minGRU": MinGRU(width), "minLSTM": MinLSTM(width)}
    for name, mixer in ours.items():
        found = installed(f"minGRU_pytorch.{name}", "minGRU-pytorch")
        if found:
            theirs = getattr(found[0], name)(width, proj_out=True)
            mine = type(mixer)(width, bias=False, learned_h0=False)  # type: ignore[call-arg]
            fused = theirs.to_hidden_and_gate if name == "minGRU" else theirs.to_hidden_and_f_i_gate
            with torch.no_grad():  # the peer puts the candidate first
                mine.project_in.weight.copy_(fused.weight.roll(-width, dims=0))
                mine.project_out.weight.copy_(theirs.to_out.weight)
            check_equal(f"minGRU-pytorch {name}", mine(x)[0], theirs(x), 1e-3)
            report.compare(
                f"{name} layer, forward and backward",
                f"minGRU-pytorch {name}",
                found[1],
                shape,
                forward_backward(mine, x),
                forward_backward(theirs, x),
                3.0,
            )
    baselines: list[tuple[str, str, nn.Module, float]] = [
        ("minGRU", "torch.nn.GRU", GRU(width), 3.0),
        ("minLSTM", "torch.nn.LSTM", LSTM(width), 3.0),
        ("minGRU", "GRU cell in a Python loop (the paper's baseline)", StepGRU(width), 10.0),
    ]
    for name, label, baseline, bar in baselines:
        report.compare(
            f"{name} layer, forward and backward",
            label,
            torch.__version__,
            shape,
            forward_backward(ours[name], x),
            forward_backward(baseline, x),
            bar,
        )
    weights = {label: sum(p.numel() for p in m.parameters()) for _, label, m, _ in baselines}
    for name, kind in (("minGRU", "min_gru"), ("minLSTM", "min_lstm_normalised")):
        say_where_time_goes(report, name, kind, ours[name], x, shape)
    own = sum(p.numel() for p in ours["minLSTM"].parameters())
    report.remarks.append(
        f"The LSTM layer holds {weights['torch.nn.LSTM'] / own:.2f} times the weights of the minLSTM layer ({shape}); "
        "where matrix products take most of the time on both sides, the ratio of times can hardly exceed that."
    )


def say_where_time_goes(
    report: Report, name: str, kind: str, mixer: nn.Module, x: Tensor, shape: str
) -> None:
    """Share of a layer's time in its two linear maps and in the gate-fused scan."""
    pre = mixer.project_in(x).detach().requires_grad_()  # type: ignore[operator]
    h = gated_scan(pre, None, kind).detach().requires_grad_()
    weight = torch.ones_like(h)

    def projections() -> None:
        mixer.project_in(x).backward(pre)  # type: ignore[operator]
        mixer.project_out(h).square().sum().backward()  # type: ignore[operator]

    def scan() -> None:
        gated_scan(pre, None, kind).backward(weight)

    parts = {"layer": forward_backward(mixer, x), "linear maps": projections, "gate-fused scan": scan}
    spent = {part: median_seconds(work, report.turns) for part, work in parts.items()}
    shares = ", ".join(
        f"{part} {spent[part] / spent['layer']:.0%}" for part in ("linear maps", "gate-fused scan")
    )
    report.remarks.append(
        f"Where the time of the {name} layer goes ({shape}, forward and backward): {shares}."
    )


def compare_s6(report: Report, batch: int, steps: int, width: int) -> None:
    """The S6 baseline against mambapy's block with the same weights, forward and backward."""
    found = installed("mambapy.mamba", "mambapy")
    if not found:
        return
    block = found[0].MambaBlock(found[0].MambaConfig(d_model=width, n_layers=1))
    mine = S6(width)
    ours, theirs = dict(mine.named_parameters()), dict(block.named_parameters())
    names = {
        **{"in_proj": "project_in", "conv1d": "conv", "x_proj": "project_u", "dt_proj": "project_delta"},
        **{"A_log": "log_minus_a", "D": "skip", "out_proj": "project_out"},
    }
    with torch.no_grad():
        for key, value in theirs.items():
            head, *tail = key.split(".")
            ours[".".join([names[head], *tail])].copy_(value)
    x = torch.randn(batch, steps, width, requires_grad=True)
    check_equal("mambapy", mine(x)[0], block(x), 1e-4)
    report.compare(
        "S6 layer, forward and backward",
        "mambapy MambaBlock",
        found[1],
        f"B = {batch}, T = {steps}, d = {width}, N = 16",
        forward_backward(mine, x),
        forward_backward(block, x),
        1.5,
    )


def compare_precision(report: Report, steps: int) -> None:
    """Largest relative float32 error against float64: the peer's scan over ours, one value per seed."""
    found = installed("minGRU_pytorch.minGRU", "minGRU-pytorch")
    if not found:
        return
    ratios = []
    for seed in range(max(6, report.turns)):
        torch.manual_seed(seed)
        k, v = 3 + torch.randn(1, steps, 64), 2 * torch.randn(1, steps, 64)
        exact = min_gru_scan(k.double(), v.double(), engine="loop")
        softplus = nn.functional.softplus
        theirs = found[0].heinsen_associative_scan_log(-softplus(k), -softplus(-k) + found[0].log_g(v))
        errors = [float(((h.double() - exact) / exact).abs().max()) for h in (theirs, min_gru_scan(k, v))]
        ratios.append(errors[0] / errors[1])
    what = "float32 error of the scan (ratio of errors)"
    shape = f"B = 1, T = {steps}, D = 64"
    report.add(what, "minGRU-pytorch, log-space scan", found[1], shape, ratios, 1000.0)


# --- GPU ----------------------------------------------------------------------------------------------------------


def compare_on_gpu(report: Report, lengths: list[int], batch: int, width: int, on: str) -> None:
    """The Triton kernels against the measured copy bandwidth, cuDNN, the step loop, and other scans; ``on`` is torch's device."""
    device = device_name(torch.device(on))
    for dtype in (torch.float32, torch.bfloat16):
        kind = str(dtype).removeprefix("torch.")
        for steps in lengths:
            pre = torch.randn(batch, steps, 2 * width, device=on, dtype=dtype, requires_grad=True)
            grad = torch.randn(batch, steps, width, device=on, dtype=dtype)
            check_equal(
                "gate-fused Triton scan",
                gated_scan(pre, None, "min_gru", "triton").float(),
                gated_scan(pre, None, "min_gru", "chunked").float(),
                1e-5 if dtype == torch.float32 else 2e-2,
            )
            # forward reads k, v, writes h; backward reads k, v, h and the gradient, writes two: nine times N
            copy = ready_copy(9 * grad.numel() // 2, torch.device(on), dtype)

            def fused(pre: Tensor = pre, grad: Tensor = grad) -> None:
                torch.autograd.grad(gated_scan(pre, None, "min_gru", "triton"), pre, grad)

            report.compare(
                "gate-fused minGRU scan, forward and backward",
                "memory copy of the same bytes",
                torch.__version__,
                str(tuple(grad.shape)),
                fused,
                copy,
                0.6,
                dtype=kind,
                device=device,
            )
            del copy, pre, grad
            x = torch.randn(batch, steps, width, device=on, dtype=dtype, requires_grad=True)
            layer = MinGRU(width).to(on, dtype)
            shape = f"B = {batch}, T = {steps}, d = {width}"
            report.compare(
                "minGRU layer, forward and backward",
                "torch.nn.GRU (cuDNN)",
                torch.__version__,
                shape,
                forward_backward(layer, x),
                forward_backward(GRU(width).to(on, dtype), x),
                10.0 if steps >= 4096 else 1.0,
                dtype=kind,
                device=device,
            )
            if steps == min(512, lengths[-1]) and dtype == torch.float32:
                report.compare(
                    "minGRU layer, forward and backward",
                    "GRU cell in a Python loop (the paper's baseline)",
                    torch.__version__,
                    shape,
                    forward_backward(layer, x),
                    forward_backward(StepGRU(width).to(on), x),
                    175.0,
                    dtype=kind,
                    device=device,
                    turns=3,
                )
            found = installed("minGRU_pytorch.minGRU", "minGRU-pytorch")
            if found and dtype == torch.float32:
                theirs = found[0].minGRU(width, proj_out=True).to(on)
                report.compare(
                    "minGRU layer, forward and backward",
                    "minGRU-pytorch minGRU",
                    found[1],
                    shape,
                    forward_backward(layer, x),
                    forward_backward(theirs, x),
                    5.0,
                    dtype=kind,
                    device=device,
                )
    compare_gpu_scans(report, (8, lengths[-1], 4 * width), on)


def compare_gpu_scans(report: Report, size: tuple[int, int, int], on: str) -> None:
    """The plain scan, forward, against accelerated-scan in its own layout and flash-linear-attention's HGRN."""
    device = device_name(torch.device(on))
    a, b = scan_operands(*size, on)
    shape = str(tuple(a.shape))

    def ours() -> Tensor:
        return linear_scan(a, b, engine="triton")

    found = installed("accelerated_scan.warp", "accelerated-scan")
    if found:
        gates, tokens = (
            a.transpose(1, 2).contiguous(),
            b.transpose(1, 2).contiguous(),
        )  # (B, C, T), its layout
        check_equal("accelerated-scan", found[0].scan(gates, tokens).transpose(1, 2), ours(), 1e-4)
        own_layout = f"{shape}, the peer in (B, C, T)"
        report.compare(
            "scan, forward",
            "accelerated-scan warp",
            found[1],
            own_layout,
            ours,
            lambda: found[0].scan(gates, tokens),
            0.95,
            device=device,
        )

        def with_transpositions() -> Tensor:
            moved = (a.transpose(1, 2).contiguous(), b.transpose(1, 2).contiguous())
            return found[0].scan(*moved).transpose(1, 2).contiguous()

        report.compare(
            "scan, forward",
            "accelerated-scan warp, inputs in (B, T, D)",
            found[1],
            shape,
            ours,
            with_transpositions,
            1.5,
            device=device,
        )
    found_fla = installed("fla.ops.hgrn", "flash-linear-attention")
    if found_fla:
        log_a = a.log()
        scan = found_fla[0].fused_recurrent_hgrn
        check_equal("flash-linear-attention", scan(b, log_a)[0], ours(), 1e-4)
        report.compare(
            "scan, forward",
            "flash-linear-attention fused_recurrent_hgrn",
            found_fla[1],
            shape,
            ours,
            lambda: scan(b, log_a),
            1.0,
            device=device,
        )


# --- the run ------------------------------------------------------------------------------------------------------


def main() -> int:
    """Measure, print, and write the results."""
    parser = benchmark_parser("Speed of the linear scan, minGRU and minLSTM against peers.")
    add_gpu_options(parser)
    options = parser.parse_args()
    torch.manual_seed(0)
    limit_threads(1)
    report = Report(turns=3 if options.quick else 9)
    if options.gpu_rows:
        check_device(options.device)
        if options.quick:
            compare_on_gpu(report, [32], 2, 16, options.device)
        else:
            compare_on_gpu(report, [128, 512, 4096], 64, 384, options.device)
    elif options.quick:
        compare_scans(report, [(4, 256, 64)])
        compare_layers(report, 4, 128, 32)
        compare_s6(report, 2, 64, 16)
        compare_precision(report, 256)
    else:
        compare_scans(report, [(4, 1024, 64), (16, 512, 128), (16, 4096, 128)])
        compare_layers(report, 16, 512, 64)
        compare_layers(report, 16, 512, 128)
        compare_s6(report, 4, 512, 64)
        compare_precision(report, 4096)
    report.remarks.append(
        "GRU and LSTM compute other functions than minGRU and minLSTM; those rows compare the time of one layer of "
        "equal width, with the same output projection on both sides."
    )
    report.write(options.out, ["torch", "numba"])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
