"""What a head does on a GPU, seen without one: no wait for it, few launches, bounded memory; which kernel it takes."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from samespace.errors import InputError
from samespace.losses import InfluenceLoss, MarginHead, chunked_bf16, kernels
from samespace.losses.checks import note_range
from samespace.losses.softmax import Kernel

CLASSES, DIM, BATCH = 93_431, 512, 512
META, CPU = torch.device("meta"), torch.device("cpu")


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    return importlib.import_module("head_memory")


@pytest.fixture
def any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "unusable", lambda kernel, device: None)


@pytest.mark.parametrize("kernel", ["float32", "bf16"])
@pytest.mark.parametrize("sample", [None, 0.1])
@pytest.mark.usefixtures("any_device")
def test_a_head_does_not_wait_for_the_device(memory: ModuleType, kernel: Kernel, sample: float | None) -> None:
    """On a meta device whatever needs a value on the host fails."""
    head = MarginHead(CLASSES, 1, sample=sample, kernel=kernel)
    head.weight = torch.nn.Parameter(torch.empty(CLASSES, DIM, device=META))
    influence = InfluenceLoss(torch.eye(DIM), kernel=kernel).to(META)
    labels = note_range(torch.arange(BATCH), META)
    with memory.MetaDevice() as device:
        embeddings = torch.empty(BATCH, DIM, device=META, requires_grad=True)
        (head(embeddings, labels) + influence(embeddings, labels)).backward()
    assert device.launches
    assert head.weight.grad is not None


def test_memory_beside_the_gradient_is_bounded(memory: ModuleType) -> None:
    kept, peak, _ = memory.computed(CLASSES, DIM, BATCH, "bf16")
    assert peak - kept < 256 * 2**20
    kept, peak, _ = memory.computed(4_000_000, DIM, BATCH, "bf16")
    assert kept == 3 * 4_000_000 * DIM * 4
    assert peak < 40e9


def test_a_chunk_is_few_launches(memory: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    for rows in (512, 256):
        monkeypatch.setattr(chunked_bf16, "rows_in_chunk", lambda batch, classes, rows=rows: rows)
        counts.append(memory.computed(CLASSES, DIM, BATCH, "bf16")[2])
    assert counts[1] - counts[0] <= 24
    assert counts[0] <= 110


@pytest.fixture
def fresh() -> Iterator[None]:
    kernels._warn_once.cache_clear()
    kernels.unusable.cache_clear()
    yield
    kernels._warn_once.cache_clear()
    kernels.unusable.cache_clear()


@pytest.mark.usefixtures("fresh")
def test_a_kernel_that_cannot_run_is_warned_of_once_and_float32_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    embeddings = torch.zeros(2, 3)
    for choice in ("bf16", "triton"):
        with pytest.warns(
            UserWarning, match=f"head.kernel={choice}: it needs a GPU; many classes are computed in float32"
        ):
            assert kernels.kernel_for(choice, embeddings) == "float32"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for choice in ("bf16", "auto", "float32"):
            assert kernels.kernel_for(choice, embeddings) == "float32"
    with pytest.raises(InputError, match=r"unknown kernel 'fp16'.*legal: auto, float32, bf16, triton"):
        MarginHead(3, 2, kernel="fp16")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="unknown kernel 'tritn'; did you mean 'triton'"):
        InfluenceLoss(torch.eye(3), kernel="tritn")  # type: ignore[arg-type]


@pytest.mark.usefixtures("fresh")
def test_a_kernel_that_is_wrong_or_fails_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    device = torch.device("cuda")
    assert kernels.largest_error("float32", CPU) == 0
    assert 0 < kernels.largest_error("bf16", CPU) < kernels.TOLERANCE / 2
    monkeypatch.setattr(kernels, "largest_error", lambda kernel, device: 0.3)
    assert kernels.unusable("bf16", device) == "it is off by 0.3 of the exact gradients in its trial"
    kernels.unusable.cache_clear()

    def broken(kernel: Kernel, device: torch.device) -> float:
        raise RuntimeError("no such\ninstruction")

    monkeypatch.setattr(kernels, "largest_error", broken)
    assert kernels.unusable("bf16", device) == "it failed its trial (no such instruction)"
    kernels.unusable.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert "compute capability 8.0" in str(kernels.unusable("bf16", device))


def test_a_wrong_gradient_shows_in_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    right = chunked_bf16._product

    def wrong(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor, *, onto: bool = False) -> None:
        right(a, b, out, onto=onto)
        if onto:
            out[-1] += 1

    monkeypatch.setattr(chunked_bf16, "_product", wrong)
    assert kernels.largest_error("bf16", CPU) > kernels.TOLERANCE
