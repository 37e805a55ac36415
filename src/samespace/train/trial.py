"""A few real steps of a training on a throw-away model: how long a step takes and what memory it needs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor, nn

from samespace.data import Batch, ImageSource
from samespace.data.readable import load_readable
from samespace.errors import InputError
from samespace.models.image_model import ImageModel
from samespace.progress import Bar
from samespace.train.loop import Training

_STEPS, _SECONDS = 20, 60.0
_WITHOUT_TERM_STEPS, _WITHOUT_TERM_SECONDS = 5, 20.0
_FIRST = 2
_SAMPLE = 128


@dataclass(frozen=True)
class Memory:
    """Bytes that training takes.

    Attributes:
        weights: of the model, its head and the compatibility term, buffers included.
        gradients: one for each trained weight.
        momentum: what the optimiser keeps for each: the momentum of SGD, both moments of AdamW.
        activations: what one real step kept for its backward pass, counted by hooks.
        old_model: weights of the old models that run beside.
        read_ahead: images that wait in the loader.
        peak: measured over all steps tried: what torch had allocated on a GPU, on a CPU the largest size of this
            process, with Python and its libraries; 0 where the system does not say.
    """

    weights: int
    gradients: int
    momentum: int
    activations: int
    old_model: int
    read_ahead: int
    peak: int

    @property
    def estimate(self) -> int:
        """The sum of the parts."""
        return self.weights + self.gradients + self.momentum + self.activations + self.old_model + self.read_ahead


@dataclass(frozen=True)
class Trial:
    """What a few real steps showed.

    Attributes:
        steps: how many were taken with the compatibility term acting.
        seconds_per_step: mean, the first two left out where there are more, reading of images included.
        seconds_per_warmup_step: likewise without the compatibility term, as during the warm-up; equal to the other
            where the term always acts or there is none.
        memory: what they needed.
        compiling: seconds that the first steps took longer, with `run.compile`; 0 without.
    """

    steps: int
    seconds_per_step: float
    seconds_per_warmup_step: float
    memory: Memory
    compiling: float = 0.0


def try_steps(training: Training, show: Bar) -> Trial:
    """Take up to twenty real steps, a minute of them at most but never fewer than two; the task's weights change.

    Raises:
        InputError: the device has too little memory for a step.
    """
    task = training.task
    weight = task.influence_weight if task.influence is not None else 0.0
    try:
        with _kept_for_backward(training) as kept:
            first = _timed(training, weight, 1, _SECONDS, show)
        times = first + _timed(training, weight, _STEPS - 1, _SECONDS - first[0], show)
        mean = _mean(times)
        warm = mean
        if task.warmup_epochs > 0 and task.influence is not None and not task.acts(0.0):
            warm = _mean(_timed(training, 0.0, _WITHOUT_TERM_STEPS, _WITHOUT_TERM_SECONDS, show))
    except (torch.cuda.OutOfMemoryError, RuntimeError) as error:
        if isinstance(error, torch.cuda.OutOfMemoryError) or "allocate" in str(error):
            size = training.recipe.optim.batch_size
            raise InputError(
                f"a step of optim.batch_size={size} does not fit the memory of {training.device}; lower it"
            ) from None
        raise
    compiled = training.recipe.run.compile != "none"
    compiling = max(0.0, sum(times[:_FIRST]) - _FIRST * mean) if compiled else 0.0
    return Trial(len(times), mean, warm, _memory(training, sum(kept.values())), compiling)


def seconds_per_image(embedder: ImageModel, source: ImageSource) -> float:
    """How long reading and embedding one image takes, from a small batch embedded twice, the second time counted."""
    rows = torch.arange(min(_SAMPLE, len(source))).numpy()
    embedder.embed(load_readable(source, rows[:4]).images)
    began = time.monotonic()
    embedder.embed(load_readable(source, rows).images).cpu()
    return (time.monotonic() - began) / len(rows)


def _timed(training: Training, weight: float, steps: int, seconds: float, show: Bar) -> list[float]:
    """Seconds of each step, from asking for its batch to its end; two at least where `steps` allows."""
    times: list[float] = []
    rate = training.recipe.optim.start_rate
    began = time.monotonic()
    for batch in _endless(training):
        training.step(batch, 0, weight, rate)
        if training.device.type == "cuda":
            torch.cuda.synchronize(training.device)
        times.append(time.monotonic() - began - sum(times))
        show(1)
        if len(times) == steps or (len(times) >= 2 and sum(times) > seconds):
            break
    return times


def _endless(training: Training) -> Iterator[Batch]:
    for epoch in count():
        yield from training.batches(epoch, 0)


def _mean(times: list[float]) -> float:
    steady = times[_FIRST:] or times
    return sum(steady) / len(steady)


@contextmanager
def _kept_for_backward(training: Training) -> Iterator[dict[int, int]]:
    """Bytes of each block of memory that is kept for a backward pass inside, by address; weights left out."""
    own = {value.untyped_storage().data_ptr() for value in _values(training.task)}
    kept: dict[int, int] = {}

    def note(value: Tensor) -> Tensor:
        block = value.untyped_storage()
        if block.data_ptr() not in own:
            kept[block.data_ptr()] = block.nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
        yield kept


def _memory(training: Training, activations: int) -> Memory:
    trained = _bytes(value for value in training.task.parameters() if value.requires_grad)
    image = 1
    for side in training.source.image_shape:
        image *= side
    waiting = min(training.recipe.optim.batch_size, len(training.source)) * image * 5
    return Memory(
        weights=_bytes(_values(training.task)),
        gradients=trained,
        momentum=trained * training.recipe.optim.values_kept,
        activations=activations,
        old_model=sum(_weights_of(side.model) for side in training.old),
        read_ahead=waiting,
        peak=_peak(training.device),
    )


def _weights_of(model: object) -> int:
    """Bytes of a model that is a network of torch; of others nothing is known."""
    return _bytes(_values(model)) if isinstance(model, nn.Module) else 0


def _values(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _bytes(values: Iterator[Tensor] | list[Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in values)


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
