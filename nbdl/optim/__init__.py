"""Optimizers: update rules as formulas, with PyTorch's interface."""

from __future__ import annotations

from nbdl.optim import curvature, lr_scheduler, swa_utils
from nbdl.optim.adafactor import Adafactor
from nbdl.optim.adagrad import Adadelta, Adagrad, RMSprop
from nbdl.optim.adam import Adam, AdamW
from nbdl.optim.adam_successors import AdaBelief, Adan, Lion, UncorrectedAdam, Yogi
from nbdl.optim.adam_variants import Adamax, NAdam, RAdam, SparseAdam
from nbdl.optim.diagonal_hessian import AdaHessian, Sophia
from nbdl.optim.hessian_free import HessianFree
from nbdl.optim.kfac import KFAC
from nbdl.optim.layerwise import LAMB, LARS
from nbdl.optim.lbfgs import LBFGS
from nbdl.optim.lbfgsb import LBFGSB
from nbdl.optim.least_squares import least_squares
from nbdl.optim.minimize import minimize
from nbdl.optim.momentum import Momentum, Nesterov
from nbdl.optim.muon import Muon
from nbdl.optim.natural_gradient import NaturalGradient
from nbdl.optim.optimizer import Optimizer
from nbdl.optim.prodigy import Prodigy
from nbdl.optim.rate_finder import largest_stable_rate, rate_range_test
from nbdl.optim.residual_optimizers import GaussNewton, LevenbergMarquardt, StochasticLBFGS
from nbdl.optim.rprop import ASGD, Rprop
from nbdl.optim.sam import SAM
from nbdl.optim.schedule_free import AdamWScheduleFree, SGDScheduleFree
from nbdl.optim.second_order import ARC, BFGS, Newton, NewtonCG, NonlinearCG, SaddleFreeNewton, TrustRegion
from nbdl.optim.sgd import SGD
from nbdl.optim.shampoo import Shampoo
from nbdl.optim.soap import SOAP

__all__ = [
    "ARC", "ASGD", "BFGS", "KFAC", "LAMB", "LARS", "LBFGS", "LBFGSB", "SAM", "SGD", "SOAP", "AdaBelief",
    "AdaHessian", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "AdamWScheduleFree", "Adamax",
    "Adan", "GaussNewton", "HessianFree", "LevenbergMarquardt", "Lion", "Momentum", "Muon", "NAdam",
    "NaturalGradient", "Nesterov", "Newton", "NewtonCG", "NonlinearCG", "Optimizer", "Prodigy", "RAdam",
    "RMSprop", "Rprop", "SGDScheduleFree", "SaddleFreeNewton", "Shampoo", "Sophia", "SparseAdam",
    "StochasticLBFGS", "TrustRegion", "UncorrectedAdam", "Yogi", "curvature", "largest_stable_rate",
    "least_squares", "lr_scheduler", "minimize", "rate_range_test", "swa_utils",
]  # fmt: skip
