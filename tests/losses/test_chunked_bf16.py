"""The margin softmax with bf16 products: the exact one within an error budget, and the same where nothing is rounded.

Its kernels for Triton run here on the CPU, by Triton's interpreter, where Triton is installed.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from samespace.losses import MARGINS, InfluenceLoss, Margin, MarginHead, chunked, chunked_bf16, kernels
from samespace.losses.chunked import chunked_margin_loss
from samespace.losses.softmax import Kernel, Softmax

interpreted = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1" or importlib.util.find_spec("triton") is None,
    reason="needs triton (pip install 'samespace[gpu]') and TRITON_INTERPRET=1",
)
KERNELS = ["bf16", pytest.param("triton", marks=interpreted)]
each_kernel = pytest.mark.parametrize("kernel", KERNELS)
ROUNDING = 8e-3
"""Of gradients, in proportion: 2^-9 for each of two factors, and for likelihoods that of logits of up to 32."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything in chunks, of 5 rows, and kernels for any device."""
    monkeypatch.setattr(chunked, "LEAST", 0)
    monkeypatch.setattr(chunked_bf16, "LEAST_ROWS", 5)
    monkeypatch.setattr(chunked_bf16, "CHUNK_BYTES", 0)
    monkeypatch.setattr(kernels, "unusable", lambda kernel, device: None)


def losses_and_gradients(margin: Margin, normalized: bool, kernel: Kernel, dtype: torch.dtype) -> list[Tensor]:
    """Of 17 samples, two without a class, and 300 classes, two taken out; by vectors and weight."""
    torch.manual_seed(0)
    x, w = torch.randn(17, 64), torch.randn(300, 64)
    offset = torch.randn(300).index_fill(0, torch.tensor([0, 3]), -torch.inf).to(dtype)
    targets = torch.randint(4, 300, (17,)).index_fill(0, torch.tensor([2, 9]), -1)
    scale = 1.0 if margin == "softmax" else 32.0
    kind = Softmax(margin, scale, MARGINS[margin].default, normalized and margin != "softmax", kernel=kernel)
    vectors = (x if margin == "softmax" else scale * functional.normalize(x)).to(dtype).requires_grad_()
    weight = (w if kind.normalized else functional.normalize(w)).to(dtype).requires_grad_()
    loss = chunked_margin_loss(vectors, weight, offset, targets, kind)
    return [loss.detach(), *torch.autograd.grad(loss, (vectors, weight))]


def error(ours: Tensor, exact: Tensor) -> float:
    return float((ours.double() - exact).norm() / exact.norm())


@each_kernel
@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("margin", MARGINS)
def test_it_is_the_exact_one_but_for_rounding(margin: Margin, normalized: bool, kernel: Kernel) -> None:
    exact = losses_and_gradients(margin, normalized, "float32", torch.float64)
    loss, *gradients = losses_and_gradients(margin, normalized, kernel, torch.float32)
    assert error(loss, exact[0]) < 1e-3
    for ours, theirs in zip(gradients, exact[1:], strict=True):
        assert error(ours, theirs) < ROUNDING


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("margin", MARGINS)
def test_it_is_the_exact_one_where_nothing_is_rounded(
    monkeypatch: pytest.MonkeyPatch, margin: Margin, normalized: bool
) -> None:
    monkeypatch.setattr(chunked_bf16, "ROUNDED", torch.float64)
    ours, exact = (losses_and_gradients(margin, normalized, one, torch.float64) for one in ("bf16", "float32"))
    for mine, theirs in zip(ours, exact, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-14)


def test_the_bias_of_a_plain_softmax_gets_its_gradient() -> None:
    torch.manual_seed(1)
    head, x, labels = MarginHead(40, 16, margin="softmax", bias=True), torch.randn(12, 16), torch.arange(12)
    results = []
    for kernel in ("bf16", "float32"):
        head.kernel = kernel
        assert head.bias is not None
        results.append(torch.autograd.grad(head(x, labels), (head.weight, head.bias)))
    for ours, theirs in zip(*results, strict=True):
        assert error(ours, theirs.double()) < ROUNDING


@each_kernel
def test_heads_of_a_batch_with_samples_classes_and_prototypes(kernel: Kernel) -> None:
    torch.manual_seed(2)
    prototypes = torch.randn(80, 24).index_fill(0, torch.tensor([0, 7]), torch.nan)
    x, labels = torch.randn(12, 24), torch.arange(12)
    heads = [MarginHead(80, 24, sample=sample, scale=16.0) for sample in (1.0, 0.5)]
    for loss in (*heads, InfluenceLoss(prototypes, scale=16.0)):
        results = []
        for loss.kernel in ("float32", kernel):
            torch.manual_seed(3)
            given = x.clone().requires_grad_()
            value = loss(given, labels)
            (thrice,) = torch.autograd.grad(3 * value, given, retain_graph=True)
            (once,) = torch.autograd.grad(value, given)
            torch.testing.assert_close(thrice, 3 * once)
            results.append(once)
        assert error(results[1], results[0].double()) < ROUNDING


def test_a_batch_without_targets_has_a_loss_of_zero() -> None:
    loss = InfluenceLoss(torch.eye(20), class_map=torch.tensor([3, -1]), kernel="bf16")
    x = torch.randn(6, 20, requires_grad=True)
    value = loss(x, torch.ones(6, dtype=torch.long))
    value.backward()
    assert value == 0
    assert x.grad is not None
    assert not x.grad.any()


@pytest.mark.parametrize(("batch", "classes", "rows"), [(512, 93_431, 256), (512, 4_000_000, 128), (300, 10**6, 100)])
def test_chunks_are_of_about_one_size(monkeypatch: pytest.MonkeyPatch, batch: int, classes: int, rows: int) -> None:
    monkeypatch.undo()
    assert chunked_bf16.rows_in_chunk(batch, classes) == rows


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton: pip install 'samespace[gpu]'")
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the tests above run in this process")
def test_the_tests_of_this_file_hold_for_kernels_of_triton() -> None:
    """The interpreter has to be chosen before Triton is imported, so they run in a process of their own."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", "triton", __file__]
    done = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("compute", [80, 90])
def test_the_kernels_compile_for_gpus(compute: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("Triton interprets here")
    pytest.importorskip("triton", reason="needs triton: pip install 'samespace[gpu]'")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.compiler import compile as compiled

    from samespace.losses import triton_rows

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    shared = {"logits": "*fp32", "classes": "i32", "width": "i32", "columns": "*i64"}
    first = {**shared, "own": "*fp32", "offset": "*fp32", "top": "*fp32", "total": "*fp32"}
    second = {**shared, "own": "*bf16", "offset": "*fp32", "top": "*fp32", "factor": "*fp32", "out": "*bf16"}
    for kernel, types, more in (
        (triton_rows._statistics, first, {"LOWEST": -1e38}),
        (triton_rows._gradients, second, {}),
    ):
        constants = {"HAS_OFFSET": True, "BLOCK": triton_rows.BLOCK, **more}
        made = compiled(ASTSource(kernel, types, constants), target=GPUTarget("cuda", compute, 32))
        assert made.asm["cubin"]
