"""Affine maps from one space to another in closed form: mean shift, orthogonal Procrustes, ridge towards Procrustes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samespace.errors import InputError

Array = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_ROWS = 65_536


class LinearMap(nn.Module):
    """`normalize(x W + b)`: unit vectors (B, source_dim) in, unit vectors (B, target_dim) out."""

    def __init__(self, source_dim: int, target_dim: int) -> None:
        super().__init__()
        self.weight: Tensor
        self.bias: Tensor
        self.register_buffer("weight", torch.zeros(source_dim, target_dim))
        self.register_buffer("bias", torch.zeros(target_dim))

    @classmethod
    def of(cls, weight: npt.NDArray[Any], bias: npt.NDArray[Any]) -> LinearMap:
        """The map with this (source_dim, target_dim) weight and (target_dim,) bias, rounded to float32."""
        made = cls(*weight.shape)
        made.weight.copy_(torch.from_numpy(weight))
        made.bias.copy_(torch.from_numpy(bias))
        return made

    def forward(self, vectors: Tensor) -> Tensor:
        """Map unit vectors."""
        return F.normalize(vectors @ self.weight + self.bias, dim=1)


def mean_shift(source: Array, target: Array) -> tuple[Doubles, Doubles]:
    """Add the difference of the means: weight = identity, bias = mean(target) − mean(source).

    Args:
        source: (N, D) vectors.
        target: (N, D) vectors of the same items.

    Raises:
        InputError: the dimensions differ.
    """
    if source.shape[1] != target.shape[1]:
        raise InputError(
            f"a mean shift needs spaces of one dimension, got {source.shape[1]} and {target.shape[1]}; "
            "procrustes, affine and residual take any"
        )
    return np.eye(source.shape[1]), target.mean(axis=0, dtype=np.float64) - source.mean(axis=0, dtype=np.float64)


def procrustes(source: Array, target: Array) -> tuple[Doubles, Doubles]:
    """The rotation (or reflection) R that minimises `‖(source − mean) R − (target − mean)‖`, with its shift.

    R = U Vᵀ from the singular value decomposition U S Vᵀ of the cross-covariance (Schönemann 1966). Where the
    dimensions differ, R has orthonormal rows or columns: the narrower space is embedded in the wider one, or the wider
    one projected.

    Args:
        source: (N, D) vectors.
        target: (N, E) vectors of the same items.

    Returns:
        R (D, E) and the bias (E,), `mean(target) − mean(source) R`.
    """
    means, _, cross = _moments(source, target)
    return _with_bias(_rotation(cross), *means)


def affine(source: Array, target: Array, *, strength: float = 0.1) -> tuple[Doubles, Doubles]:
    """Least squares drawn towards the Procrustes solution R instead of towards zero.

    Minimises `‖(source − mean) W − (target − mean)‖² / N + λ ‖W − R‖²`, solved by
    `(C + λ I) W = cross-covariance + λ R`, with C the covariance of the source and λ = strength × its mean eigenvalue.

    Args:
        source: (N, D) vectors.
        target: (N, E) vectors of the same items.
        strength: 0 is plain least squares, which needs N well above D; a large value gives `procrustes`.

    Returns:
        W (D, E) and the bias (E,).

    Raises:
        InputError: a negative strength.
    """
    if strength < 0:
        raise InputError(f"strength should be at least 0, got {strength}")
    means, covariance, cross = _moments(source, target)
    pull = strength * np.trace(covariance) / len(covariance)
    left = covariance + pull * np.eye(len(covariance))
    weight = np.linalg.lstsq(left, cross + pull * _rotation(cross), rcond=None)[0]
    return _with_bias(weight, *means)


def _moments(source: Array, target: Array) -> tuple[tuple[Doubles, Doubles], Doubles, Doubles]:
    """Both means, the covariance of the source and the cross-covariance, summed in float64 block by block."""
    means = source.mean(axis=0, dtype=np.float64), target.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((source.shape[1], source.shape[1]))
    cross = np.zeros((source.shape[1], target.shape[1]))
    for start in range(0, len(source), _ROWS):
        centred = source[start : start + _ROWS] - means[0]
        covariance += centred.T @ centred
        cross += centred.T @ (target[start : start + _ROWS] - means[1])
    return means, covariance / len(source), cross / len(source)


def _rotation(cross: Doubles) -> Doubles:
    left, _, right = np.linalg.svd(cross, full_matrices=False)
    return np.asarray(left @ right)


def _with_bias(weight: Doubles, source_mean: Doubles, target_mean: Doubles) -> tuple[Doubles, Doubles]:
    return weight, target_mean - source_mean @ weight
