"""The learning rate at each step."""

from __future__ import annotations

import math

from samespace.train.sections import OptimSection


def learning_rate(optim: OptimSection, epoch: int, step: int, steps_per_epoch: int) -> float:
    """The rate for step `step` of epoch `epoch`, both counted from zero.

    Example:
        >>> optim = OptimSection(epochs=35, milestones=(20, 26, 32), lr=0.1)
        >>> [round(learning_rate(optim, epoch, 0, 10), 6) for epoch in (0, 19, 20, 26, 34)]
        [0.1, 0.1, 0.01, 0.001, 0.0001]
    """
    done = epoch * steps_per_epoch + step
    if done < optim.warmup_steps:
        return optim.lr * (done + 1) / optim.warmup_steps
    if optim.schedule == "cosine":
        return optim.lr * 0.5 * (1 + math.cos(math.pi * done / (optim.epochs * steps_per_epoch)))
    return optim.lr * optim.gamma ** sum(epoch >= milestone for milestone in optim.milestones or ())
