"""Two processes that share the classes of a head, over gloo, give the loss and the gradients of one process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from samespace.errors import InputError
from samespace.losses import MarginHead, chunked, chunked_bf16, kernels
from samespace.losses.class_share import ClassShare
from samespace.train.checkpoint import Position, load_checkpoint, save_checkpoint
from samespace.train.distributed import Processes

CLASSES, DIM, BATCH = 13, 6, 18
CASES: list[dict[str, object]] = [
    {"margin": "arcface"},
    {"margin": "softmax", "bias": True},
    {"margin": "cosface", "sample": 1.0},
    {"margin": "arcface", "scale": 16.0, "kernel": "bf16"},
]


def head_of(share: ClassShare | None, **options: object) -> MarginHead:
    torch.manual_seed(0)
    head = MarginHead(CLASSES, DIM, share=share, **options)  # type: ignore[arg-type]
    return head.double() if options.get("margin") != "arcface" else head


def batch(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    embeddings = torch.randn(BATCH, DIM, dtype=torch.float64, generator=generator).to(dtype).requires_grad_()
    return embeddings, torch.randint(0, CLASSES, (BATCH,), generator=generator)


def results(head: MarginHead, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    loss = head(embeddings, labels)
    (3 * loss).backward()
    assert embeddings.grad is not None
    return loss.detach(), embeddings.grad, [value.grad for value in head.parameters() if value.grad is not None]


def compare(rank: int, share: ClassShare, options: dict[str, object]) -> None:
    """One process's part of a step against the whole of it."""
    whole, part = head_of(None, **options), head_of(share, **options)
    assert torch.equal(part.weight, share.own(whole.weight))
    gathered = share.whole(part.weight)
    assert torch.equal(gathered, whole.weight) if rank == 0 else len(gathered) == 0
    embeddings, labels = batch(whole.weight.dtype)
    expected, by_embeddings, by_weights = results(whole, embeddings, labels)
    mine = slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
    some = embeddings.detach()[mine].clone().requires_grad_()
    loss, by_some, by_part = results(part, some, labels[mine])
    # gradients by embeddings are to be averaged over the processes
    agree(loss, expected, options)
    agree(by_some / share.count, by_embeddings[mine], options)
    for ours, theirs in zip(by_part, by_weights, strict=True):
        agree(ours, share.own(theirs), options)


def agree(ours: Tensor, theirs: Tensor, options: dict[str, object]) -> None:
    if options.get("kernel") == "bf16":
        assert float((ours - theirs).norm()) <= 1e-2 * float(theirs.norm())
        return
    near = {"rtol": 1e-4, "atol": 1e-5} if ours.dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-12}
    torch.testing.assert_close(ours, theirs, **near)


def of_one_process(rank: int, meeting: str) -> None:
    """What each process does: chunks of 12 rows, and all cases."""
    chunked.ROWS, chunked.BLOCK = 12, 42
    chunked_bf16.LEAST_ROWS, chunked_bf16.CHUNK_BYTES = 7, 0
    kernels.unusable = lambda kernel, device: None  # type: ignore[assignment]
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    share = ClassShare(rank, 2, CLASSES)
    for options in CASES:
        compare(rank, share, options)
    sampled = head_of(share, sample=0.5, margin="cosface")
    embeddings, labels = batch(torch.float64)
    loss, _, (by_weight,) = results(sampled, embeddings, labels)
    assert bool(loss.isfinite())
    assert not bool((by_weight == 0).all())
    keep_and_carry_on(share, Path(meeting).with_name("checkpoint.safetensors"))
    dist.destroy_process_group()


def keep_and_carry_on(share: ClassShare, file: Path) -> None:
    """A checkpoint of two processes holds the rows of both, and goes on in two or in one."""
    tasks = [nn.ModuleDict({"head": head_of(one)}) for one in (share, share, None)]
    kept, again, alone = [(task, torch.optim.SGD(task.parameters(), lr=0.1, momentum=0.9)) for task in tasks]
    for value in kept[0].parameters():
        value.grad = torch.randn_like(value)
    kept[1].step()
    save_checkpoint(file, *kept, Position(epoch=1), {"recipe": "", "source": "images"}, first=share.rank == 0)
    dist.barrier()
    for task, optimizer in (again, alone):
        assert load_checkpoint(file, task, optimizer, "images").epoch == 1
        ours, theirs = task["head"].weight, kept[0]["head"].weight
        mine = share.own if task is alone[0] else torch.Tensor.detach
        assert torch.equal(mine(ours), theirs)
        momentum = optimizer.state[ours]["momentum_buffer"]
        assert torch.equal(mine(momentum), kept[1].state[theirs]["momentum_buffer"])


def test_two_processes_give_the_loss_and_gradients_of_one(tmp_path: Path) -> None:
    commands = [[sys.executable, __file__, str(rank), str(tmp_path / "meeting")] for rank in range(2)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    for process in running:
        told = process.communicate(timeout=300)[1]
        assert process.returncode == 0, told


def test_shares_cover_all_classes_once() -> None:
    for classes, count in ((5, 4), (13, 2), (8, 8)):
        shares = [ClassShare(rank, count, classes) for rank in range(count)]
        assert torch.cat([share.own(torch.arange(classes)) for share in shares]).tolist() == list(range(classes))
        assert all(0 < share.stop - share.start <= share.most for share in shares)
    assert Processes().classes(3) is None
    with pytest.raises(InputError, match="shares 3 classes among 4 processes"):
        Processes(0, 4).classes(3)


def test_the_first_weight_does_not_depend_on_the_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samespace.losses.heads._DRAWN_ROWS", 16)
    parts = []
    for rank in range(3):
        torch.manual_seed(0)
        parts.append(MarginHead(50, 8, share=ClassShare(rank, 3, 50)).weight)
    torch.manual_seed(0)
    assert torch.equal(torch.cat(parts), MarginHead(50, 8).weight)


if __name__ == "__main__":
    of_one_process(int(sys.argv[1]), sys.argv[2])
