"""A device that computes nothing: what a step launches, keeps in memory and waits for, without a GPU.

Tensors of PyTorch's `meta` device have a shape and no values, so code runs on them as it would on a GPU, of any size
and in no time, and whatever needs a value on the host fails: `.item()`, `nonzero`, indexing by a mask.
"""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_FREE = {"empty", "empty_like", "new_empty", "detach", "lift_fresh", "set_", "resize_"}


class MetaDevice(TorchDispatchMode):
    """Counts, while it is entered, what happens to tensors of `device="meta"`.

    Attributes:
        launches: how often each operation was started that would be a kernel, by its name.
        allocated: bytes of the tensors that are alive.
        peak: the most that `allocated` was.
    """

    def __init__(self) -> None:
        super().__init__()
        self.launches: Counter[str] = Counter()
        self.allocated = self.peak = 0
        self._known: weakref.WeakKeyDictionary[torch.UntypedStorage, int] = weakref.WeakKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # PyTorch describes this one by copying on the real device
        out = kwargs["out"] if func is torch.ops.aten.addmm.dtype_out else func(*args, **kwargs)
        name = func.overloadpacket.__name__
        tensors = [one for one in tree_leaves(out) if isinstance(one, Tensor) and one.is_meta]
        if tensors and not func.is_view and name not in _FREE:
            self.launches[name] += 1
        for tensor in tensors:
            self._note(tensor.untyped_storage())
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        if storage not in self._known:
            size = self._known[storage] = storage.nbytes()
            self.allocated += size
            self.peak = max(self.peak, self.allocated)
            weakref.finalize(storage, self._forget, size)

    def _forget(self, size: int) -> None:
        self.allocated -= size
