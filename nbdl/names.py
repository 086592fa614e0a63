"""Names that PyTorch has at its top a second time, and where they stand here: loaded when first used."""

from __future__ import annotations

_GROUPS = {
    "control_flow": "cond while_loop",
    "func.vectorize": "vmap",
    "nn.functional": """
        adaptive_avg_pool1d avg_pool1d bilinear celu celu_ channel_shuffle conv1d conv2d conv3d conv_tbc
        conv_transpose1d conv_transpose2d conv_transpose3d cosine_similarity hardshrink max_pool1d
        max_pool1d_with_indices max_pool2d max_pool3d pairwise_distance pdist pixel_shuffle pixel_unshuffle
        prelu rms_norm rrelu rrelu_ selu selu_ threshold threshold_""",
    "nn.functional.native": """
        adaptive_max_pool1d affine_grid_generator alpha_dropout alpha_dropout_ batch_norm
        binary_cross_entropy_with_logits constant_pad_nd convolution cosine_embedding_loss ctc_loss dropout
        dropout_ embedding embedding_renorm_ feature_alpha_dropout feature_alpha_dropout_ feature_dropout
        feature_dropout_ grid_sampler grid_sampler_2d grid_sampler_3d group_norm hinge_embedding_loss
        instance_norm kl_div layer_norm margin_ranking_loss norm_except_dim poisson_nll_loss
        triplet_margin_loss""",
    "nn.native_recurrent": "gru gru_cell lstm lstm_cell rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell",
    "ops.inplace": """
        abs_ acos_ acosh_ addmv_ arccos_ arccosh_ arcsin_ arcsinh_ arctan_ arctanh_ as_strided_ asin_ asinh_
        atan_ atanh_ ceil_ clamp_ clamp_max_ clamp_min_ clip_ conj_physical_ cos_ cosh_ deg2rad_ erf_ erfc_
        exp2_ exp_ expm1_ fill_ fix_ floor_ frac_ gcd_ i0_ lcm_ ldexp_ log10_ log1p_ log2_ log_ logit_
        nan_to_num_ neg_ negative_ rad2deg_ reciprocal_ relu_ round_ rsqrt_ sigmoid_ sin_ sinc_ sinh_ sqrt_
        square_ tan_ tanh_ trunc_ xlogy_ zero_""",
    "ops.attributes": "detach detach_ resize_as_ to_dlpack typename",
    "settings": """
        are_deterministic_algorithms_enabled get_default_device get_device get_deterministic_debug_mode
        get_device_module get_float32_matmul_precision get_num_interop_threads is_anomaly_check_nan_enabled
        is_anomaly_enabled is_deterministic_algorithms_warn_only_enabled is_warn_always_enabled
        set_default_device set_default_tensor_type set_deterministic_debug_mode
        set_float32_matmul_precision set_flush_denormal set_num_interop_threads set_warn_always
        use_deterministic_algorithms""",
    "ops.memory_format": "channels_last channels_last_3d contiguous_format memory_format preserve_format",
    "ops.memory_layout": "UntypedStorage layout strided",
    "ops.view_copies": """
        alias_copy as_strided_copy detach_copy diagonal_copy expand_copy permute_copy select_copy split_copy
        split_with_sizes_copy squeeze_copy t_copy transpose_copy unbind_copy unfold_copy unsqueeze_copy
        view_as_complex_copy view_as_real_copy view_copy""",
    "serialization": "load save",
    "tensor_types": """
        BoolTensor ByteTensor CharTensor DoubleTensor FloatTensor HalfTensor IntTensor LongTensor
        ShortTensor""",
    "amp": "autocast get_autocast_dtype is_autocast_enabled",
    "compiler": "compile",
}  # fmt: skip

HOMES = {name: f"nbdl.{module}" for module, names in _GROUPS.items() for name in names.split()}
"""Name -> the module that has it."""
