"""Networks of radial basis functions: layer, network, the choice of centres and widths, and training."""

from __future__ import annotations

from nbdl.nn.rbf.centers import (
    growing_neural_gas,
    k_means,
    kmeans_plus_plus,
    neighbor_widths,
    random_centers,
)
from nbdl.nn.rbf.layer import RBF, RBFNetwork
from nbdl.nn.rbf.training import descend, place_centers, train_three_step, train_two_step

__all__ = [
    "RBF",
    "RBFNetwork",
    "descend",
    "growing_neural_gas",
    "k_means",
    "kmeans_plus_plus",
    "neighbor_widths",
    "place_centers",
    "random_centers",
    "train_three_step",
    "train_two_step",
]
