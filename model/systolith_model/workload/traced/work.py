"""Operations an element of what passes once over its operands, by torch's name."""

from systolith_model.workload.builder import ACTIVATION_FLOPS, NORM_FLOPS
from systolith_model.workload.training import LOSS_FLOPS

SOFTMAX_FLOPS = 5
"""Maximum, difference, exponential, sum, division, each element."""
SOFTMAX_BACKWARD_FLOPS = 4

PER_ELEMENT: dict[str, int] = {
    **{name: ACTIVATION_FLOPS[name] for name in ("silu", "gelu", "relu", "tanh")},
    "gelu_tanh": ACTIVATION_FLOPS["gelu_tanh"],
    "sigmoid": 3, "log_sigmoid_forward": 3, "softplus": 3, "elu": 3, "mish": 7, "hardswish": 4, "hardsigmoid": 3,
    "leaky_relu": 2, "addcmul": 2, "addcdiv": 2, "lerp": 3, "rsqrt": 2, "native_dropout": 2, "where": 0,
    "masked_fill": 0, "floor_divide": 1, "remainder": 1, "fmod": 1, "polar": 4,
}  # fmt: skip
"""Operations an element where they are not one; an exponential, a division and a root are one each."""

REDUCTIONS: dict[str, int] = {
    **dict.fromkeys(
        ("sum", "mean", "prod", "amax", "amin", "max", "min", "argmax", "argmin", "any", "all", "cumsum", "cumprod",
         "topk", "sort", "aminmax", "nll_loss_forward", "nll_loss2d_forward", "count_nonzero", "nansum"), 1),
    **dict.fromkeys(("var", "var_mean", "std", "std_mean", "linalg_vector_norm", "norm", "mse_loss"), 2),
    **dict.fromkeys(("avg_pool2d", "max_pool2d_with_indices", "_adaptive_avg_pool2d"), 1),
    "logsumexp": 4,
}  # fmt: skip
"""Operations an element of the input, each read once."""

NORMS: dict[str, int] = {
    "native_layer_norm": NORM_FLOPS["layernorm"], "native_group_norm": NORM_FLOPS["layernorm"],
    "native_batch_norm": NORM_FLOPS["layernorm"], "_native_batch_norm_legit": NORM_FLOPS["layernorm"],
    "_native_batch_norm_legit_functional": NORM_FLOPS["layernorm"], "_batch_norm_with_update": NORM_FLOPS["layernorm"],
    "_native_batch_norm_legit_no_training": 4, "_batch_norm_no_update": 4, "_fused_rms_norm": NORM_FLOPS["rmsnorm"],
    "_softmax": SOFTMAX_FLOPS, "_safe_softmax": SOFTMAX_FLOPS, "_log_softmax": LOSS_FLOPS,
    "_softmax_backward_data": SOFTMAX_BACKWARD_FLOPS, "_log_softmax_backward_data": SOFTMAX_BACKWARD_FLOPS,
}  # fmt: skip
"""Operations an element of the first result; rows are read as often as a norm's."""
