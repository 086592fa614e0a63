"""What training programs need beside layers."""

from __future__ import annotations

from nbdl.nn.utils import parametrizations, parametrize, prune, rnn, stateless
from nbdl.nn.utils.clip_grad import (
    clip_grad_norm,
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
)
from nbdl.nn.utils.convert_parameters import parameters_to_vector, vector_to_parameters
from nbdl.nn.utils.fusion import (
    fuse_conv_bn_eval,
    fuse_conv_bn_weights,
    fuse_linear_bn_eval,
    fuse_linear_bn_weights,
)
from nbdl.nn.utils.init import skip_init
from nbdl.nn.utils.weight_hooks import (
    remove_spectral_norm,
    remove_weight_norm,
    spectral_norm,
    weight_norm,
)
