"""What the callbacks measure: how a model in training stands beside the old one on items kept out of the training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader, RandomSampler

from samespace.errors import InputError
from samespace.train.measurement import Measurement
from samespace.vectors import VectorSet

Embed: TypeAlias = Callable[[Any, Any], Tensor | npt.NDArray[Any]]


class CompatibilityWatch:
    """Labelled items outside the training, with the old model's vectors of them, on which a new model is measured.

    Each item asks for the others, itself left out. `old` is the old model alone, `cross` the new model's queries on
    the old vectors, `new` the new model alone. These are values without intervals, for a curve and for the choice of a
    checkpoint: whether an upgrade is safe is said by `samespace.check`, on classes that chose nothing.

    Args:
        batches: what `embed` takes, the same batches in the same order each time, such as a list or a `DataLoader`
            that does not shuffle.
        labels: (N,) classes of the items, whole numbers or strings.
        old_vectors: (N, old_dim) the old model's vectors of the items, in their order.
        embed: (model, batch) → (B, new_dim); by default `model(batch)`, or `model(**batch)` of a mapping, with the
            tensors in the batch moved to the model's device. It runs in evaluation mode, without gradient.
        metrics: as `samespace.check` names them.
        prefix: compare the leading old_dim values of wider vectors (BCT section 3.6).

    Raises:
        InputError: the loader shuffles, the labels do not fit the old vectors, or a metric is unknown or undefined
            on these labels.

    Example:
        >>> labels = [0, 0, 1, 1]
        >>> old = np.float32([[1, 0], [1, 0.1], [0, 1], [0.1, 1]])
        >>> watch = CompatibilityWatch([torch.from_numpy(old)], labels, old)
        >>> watch.measure(nn.Identity())
        {'rank@1/old': 1.0, 'rank@1/new': 1.0, 'rank@1/cross': 1.0}
    """

    def __init__(
        self,
        batches: Iterable[Any],
        labels: Sequence[Any] | npt.NDArray[Any] | Tensor,
        old_vectors: VectorSet | npt.NDArray[Any] | Tensor,
        *,
        embed: Embed | None = None,
        metrics: Sequence[str] = ("rank@1",),
        prefix: bool = False,
    ) -> None:
        if isinstance(batches, DataLoader) and isinstance(batches.sampler, RandomSampler):
            raise InputError("the loader shuffles; labels and old vectors are in one order: give shuffle=False")
        old = old_vectors if isinstance(old_vectors, VectorSet) else VectorSet.from_arrays(_array(old_vectors))
        names = np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
        if names.shape != (len(old),):
            raise InputError(f"labels have shape {names.shape} for {len(old)} old vectors; expected one each")
        self.batches, self.embed, self.prefix, self.old_dim = batches, embed or _forward, prefix, old.dim
        codes = np.unique(names, return_inverse=True)[1].astype(np.int64)
        self._measurement = Measurement(codes, metrics, old=old, cross=True, dim=old.dim if prefix else None)

    def measure(self, model: nn.Module) -> dict[str, float]:
        """The values as `METRIC/TEST`; vectors without a direction are counted, as `vectors_without_direction`.

        The model's modes and torch's random numbers are left as they were. Of several processes the first measures,
        and all have its values, so each must call this; the whole model must lie in the first.

        Raises:
            InputError: `embed` gave no vectors, or not as many as there are labels, or of another dimension.
        """
        if not (distributed.is_available() and distributed.is_initialized()):
            return self._measure(model)
        result: list[Any] = [None]
        if distributed.get_rank() == 0:
            try:
                result = [self._measure(model)]
            except Exception as error:  # the others wait for an answer, whatever it is
                result = [f"{type(error).__name__}: {error}" if not isinstance(error, InputError) else str(error)]
        distributed.broadcast_object_list(result, src=0)
        if isinstance(result[0], str):
            raise InputError(result[0])
        return dict(result[0])

    def _measure(self, model: nn.Module) -> dict[str, float]:
        with _as_evaluated(model), torch.no_grad():
            parts = [self._vectors(model, batch) for batch in self.batches]
        count = sum(map(len, parts))
        if count != len(self._measurement.labels):
            raise InputError(
                f"the batches gave {count} vectors for {len(self._measurement.labels)} labels; expected one each, "
                "every time the batches are gone through"
            )
        return self._measurement.of(np.concatenate(parts))

    def _vectors(self, model: nn.Module, batch: Any) -> npt.NDArray[np.float32]:
        given = self.embed(model, batch)
        if not isinstance(given, Tensor | np.ndarray) or given.ndim != 2:
            shape = f" of shape {tuple(given.shape)}" if isinstance(given, Tensor | np.ndarray) else ""
            raise InputError(
                f"embed gave a {type(given).__name__}{shape} for a batch; expected a tensor (batch, dimensions): "
                "give embed=, a function of model and batch"
            )
        dim = given.shape[1]
        if dim < self.old_dim or (dim > self.old_dim and not self.prefix):
            hint = "" if dim < self.old_dim else f"; prefix=True compares the leading {self.old_dim} of them"
            raise InputError(f"embed gave vectors of {dim} dimensions and the old ones have {self.old_dim}{hint}")
        return _array(given)


@contextmanager
def _as_evaluated(model: nn.Module) -> Iterator[None]:
    """In evaluation mode with fixed random numbers; then every module's mode and torch's generators as before."""
    modes = {module: module.training for module in model.modules()}
    cards = sorted({tensor.device.index for tensor in model.parameters() if tensor.is_cuda})
    with torch.random.fork_rng(cards):
        for generator in (torch.default_generator, *(torch.cuda.default_generators[card] for card in cards)):
            generator.manual_seed(0)
        model.eval()
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training


def _forward(model: nn.Module, batch: Any) -> Any:
    parameter = next(model.parameters(), None)
    moved = batch if parameter is None else _moved(batch, parameter.device)
    return model(**moved) if isinstance(moved, Mapping) else model(moved)


def _moved(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Mapping):
        return {name: _moved(value, device) for name, value in batch.items()}
    return batch.to(device) if isinstance(batch, Tensor) else batch


def _array(values: Any) -> npt.NDArray[np.float32]:
    return np.asarray(values.detach().float().cpu() if isinstance(values, Tensor) else values, dtype=np.float32)
