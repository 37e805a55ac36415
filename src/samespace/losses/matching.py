"""Matching: the new model imitates the old model's function, view by view."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from samespace.errors import InputError
from samespace.losses.checks import check_batch, check_old, check_range, full_precision, old_part, widen


class MatchingLoss(nn.Module):
    """One minus the cosine between a new embedding and the old one of the *same augmented view*: function matching.

    `mean 1 - cos(f(x'), normalize((1 - β) o(x') + β c_y))`: f(x') is the new embedding of the view x', o(x') the old
    unit vector of that view, c_y the old centre of its class. With β = 0 it is knowledge distillation as function
    matching (Beyer et al., CVPR 2022, section 3: the same view for teacher and student, many views, long training);
    β > 0 also takes away a part of what is noise in o(x'). Two images seen by one model share its mistakes: the old
    model puts an unseen class somewhere odd, but puts both images there, and its function says where.

    Cost: B · old_dim multiplications; the old embeddings of the views are the caller's and cost one forward pass of
    the old model, without gradient. Fails, that is gains little, where the old model is weak (its function is mostly
    noise), with short training, or where `old_views` are of the plain images while the new model sees other
    views of them. Weights of 10 to 30 beside a margin head of scale 16 to 64 act; 1 hardly does.

    Args:
        centres: (C, old_dim) old centres of the classes of `labels`, such as `prototypes.mean` gives them; normalised
            inside. A row of NaN is a class without centre, whose samples have β = 0. None = no class has one.
        beta: β, the share of the centre in the target, 0 <= β < 1.
        prefix: compare the leading old_dim entries of wider embeddings (BCT section 3.6).

    Raises:
        InputError: β outside [0, 1), or centres that are not (C, old_dim) or hold NaN or infinity in part.

    Example:
        >>> loss = MatchingLoss(torch.eye(2), beta=0.5)
        >>> views = torch.tensor([[0.0, 3.0]])
        >>> round(float(loss(torch.tensor([[1.0, 1.0]]), torch.tensor([0]), views)), 6)
        0.0
        >>> float(loss(torch.tensor([[1.0, 0.0]]), None, views))
        1.0
    """

    needs_old_views = True

    centres: Tensor | None

    def __init__(self, centres: Tensor | None = None, *, beta: float = 0.2, prefix: bool = False) -> None:
        super().__init__()
        if not 0 <= beta < 1:
            raise InputError(f"beta is {beta}; expected a share of at least 0 and below 1")
        self.beta = beta
        self.prefix = prefix
        self.register_buffer("centres", None if centres is None else _usable_centres(centres), persistent=False)

    def forward(self, embeddings: Tensor, labels: Tensor | None, old_views: Tensor) -> Tensor:
        """Loss of a batch, the mean over its samples.

        Args:
            embeddings: (B, new_dim) of any floating type.
            labels: (B,) whole numbers, -1 where an image has no class, such as a mixture of two images; None = none
                has one. The target of an image without class is o(x') alone.
            old_views: (B, old_dim) of the same views; no gradient goes there.

        Raises:
            InputError: shapes do not fit, a label is outside, or dimensions differ without `prefix`.
        """
        check_batch(embeddings, labels if labels is not None else embeddings.new_zeros(len(embeddings)).long())
        check_old(embeddings, old_views)
        with full_precision(embeddings):
            new = functional.normalize(widen(old_part(embeddings, old_views.shape[1], self.prefix)))
            return self.of_unit(new, labels, functional.normalize(widen(old_views.detach())))

    def of_unit(self, new: Tensor, labels: Tensor | None, old: Tensor) -> Tensor:
        """The same for vectors that are unit already: new (B, old_dim) and old (B, old_dim), float32 or float64."""
        target = self.targets(labels, old).to(new.dtype)
        return (1 - (new * target).sum(dim=1)).sum() / max(1, len(new))

    @torch.no_grad()
    def targets(self, labels: Tensor | None, old: Tensor) -> Tensor:
        """normalize((1 - β) o + β c_y) for old unit vectors (B, old_dim).

        Raises:
            InputError: a label is outside the centres, or the centres have another dimension.
        """
        if labels is None or self.centres is None or self.beta == 0:
            return old
        if self.centres.shape[1] != old.shape[1]:
            raise InputError(
                f"old embeddings have {old.shape[1]} dimensions and the centres {self.centres.shape[1]}; "
                "expected both from the old space"
            )
        known = labels >= 0
        check_range(labels, len(self.centres), "the centres", least=torch.iinfo(labels.dtype).min)
        centre = self.centres[labels.clamp(min=0)].to(old.dtype)
        known = known & centre[:, 0].isfinite()
        blend = functional.normalize((1 - self.beta) * old + self.beta * centre)
        return torch.where(known[:, None], blend, old)

    def extra_repr(self) -> str:
        """Sizes and settings, for print."""
        return f"classes={0 if self.centres is None else len(self.centres)}, beta={self.beta}"


def _usable_centres(centres: Tensor) -> Tensor:
    """Unit rows, NaN where a class has no centre."""
    if centres.ndim != 2 or not centres.is_floating_point():
        raise InputError(
            f"centres are {centres.dtype} of shape {tuple(centres.shape)}; expected floating (classes, old_dim)"
        )
    rows = widen(centres.detach()).clone()
    broken = ~rows.isfinite().all(dim=1) & ~rows.isnan().all(dim=1)
    if bool(broken.any()):
        row = int(broken.nonzero()[0])
        raise InputError(f"centre {row} holds NaN or infinity in part; expected finite, or all NaN for no centre")
    return functional.normalize(rows)
