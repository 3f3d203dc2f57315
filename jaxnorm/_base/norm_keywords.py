"""The keywords that other libraries have for what normalizers do, each with ours: of specs, calls and functions."""

from collections.abc import Mapping

from jaxnorm._base.foreign_keywords import OF_ANY_SPEC
from jaxnorm._base.keywords import MISSING, SIZE, TOO_MANY, same

_FEATURES = (
    "The number of features belongs to the weights: norm.init((features,)), or "
    "jaxnorm.nnx.Norm(norm, features, rngs=rngs)."
)
_RUNNING = (
    "Pass running statistics in the call, norm(params, x, stats); without them the data are measured. "
    "jaxnorm.linen.Norm and jaxnorm.nnx.Norm have use_running_average."
)

_SHARED: Mapping[str, str] = {
    "eps": "Pass epsilon.",
    **same("Pass axis, the axes over which statistics are taken.", "reduction_axes", "reduction_axis", "dim"),
    **same("Pass feature_axis, the axes of scale and bias.", "feature_axes", "param_axis"),
    "data_format": "Pass feature_axis=1 for channels first.",
    **same("Pass axis_name.", "cross_replica_axis", "synchronized"),
    "cross_replica_axis_index_groups": "Pass axis_index_groups.",
    "groups": "Pass num_groups.",
    **same(
        "Statistics are in at least float32, and the variance is that of the deviations. Leave it out.",
        "use_fast_variance", "force_float32_reductions",
    ),
    **same("Make a jaxnorm.zoo.BatchRenorm.", "renorm", "renorm_clipping", "renorm_momentum"),
}  # fmt: skip

SPECS: Mapping[str, str] = {
    **_SHARED,
    **same(
        _FEATURES,
        "num_features", "normalized_shape", "num_channels", "channels", "shape", "features", "input_size", SIZE,
    ),
    **same("Pass use_scale and use_bias.", "elementwise_affine", "affine", "channelwise_affine"),
    **same("Pass use_bias.", "bias", "center", "create_offset", "with_bias"),
    **same("Pass use_scale.", "scale", "create_scale", "use_weight", "weight", "with_scale"),
    **same("Pass bias_init, a number or an initializer.", "beta_initializer", "offset_init"),
    **same("Pass scale_init, a number or an initializer.", "gamma_initializer", "weight_init"),
    "moving_mean_initializer": "Pass mean_init.",
    "moving_variance_initializer": "Pass var_init.",
    **same("Pass momentum, the weight of the old value.", "decay_rate", "decay"),
    **same(
        _RUNNING,
        "use_running_average", "training", "is_training", "train", "inference", "track_running_stats", "mode",
    ),
    **same(
        "The output has the dtype of x; weights have that of norm.init((features,), dtype). Leave it out.",
        "dtype", "param_dtype", "promote_dtype",
    ),
    **same("Pass the mask in the call, norm(params, x, where=mask).", "where", "mask"),
    **same("Pass the key to norm.init((features,), key=key).", "rngs", "rng", "key", "seed"),
    **OF_ANY_SPEC,
}  # fmt: skip

CALLS: Mapping[str, str] = {
    "mask": "Pass where=..., True on real data.",
    **same(_RUNNING, "use_running_average", "training", "is_training", "train", "inference"),
    MISSING: (
        "Call norm(params, x) with params = norm.init((features,)). jaxnorm.linen.Norm(norm)(x) and "
        "jaxnorm.nnx.Norm(norm, features, rngs=rngs)(x) hold the weights themselves."
    ),
}

FUNCTIONS: Mapping[str, str] = {
    **_SHARED,
    **same("Pass scale.", "weight", "gamma"),
    **same("Pass bias.", "beta", "offset"),
    **same("Pass where=..., True on real data.", "mask"),
    **same("Pass axis: -1 for features of one axis, (-2, -1) for those of two.", "normalized_shape", "num_features"),
    **same("Pass moments=jaxnorm.Moments(mean, var, count).", "running_mean", "running_var", "mean", "var"),
    **same(
        "With moments=... they are used, without them the data are measured.",
        "training", "is_training", "use_input_stats", "use_running_average",
    ),
    **same("Fold the moments that come out: jaxnorm.update_running.", "momentum", "decay_rate"),
    **same("Pass it first.", "input", "inputs", "a"),
    **same("Pass scale=None or bias=None.", "use_scale", "use_bias", "elementwise_affine", "affine"),
    **same("The output has the dtype of x. Leave it out.", "dtype", "param_dtype"),
}  # fmt: skip

BATCH_NORM: Mapping[str, str] = {
    **FUNCTIONS,
    TOO_MANY: "PyTorch has mean and variance first; here they go by name, moments=jaxnorm.Moments(mean, var, count).",
}

KERNELS: Mapping[str, str] = {
    "eps": "Pass epsilon.",
    "dim": "Pass axis, the axes of the inputs of a unit; dim names the axis of the units.",
    "feature_axes": "Pass axis, the axes of the inputs of a unit; feature_axes name those of the units.",
    **same("Pass iterations.", "n_power_iterations", "num_power_iterations", "power_iterations", "n_steps"),
    **same(
        "A weight normalizer maps a kernel to a kernel. Reparametrized(cell, WeightNorm()) puts it into a cell, "
        "jaxnorm.linen.Reparametrized and jaxnorm.nnx.Reparametrized into any module.",
        "module", "layer", "layer_instance", "name", "weight_name", "variable_filter",
    ),
    **same("Weights have the dtype of the kernel. Leave it out.", "dtype", "param_dtype"),
    **same("Pass the key to init(kernel, key).", "rngs", "rng", "key", "seed"),
    **same("spec.advance(params, state) makes the state of the next step of training.", "inference", "training"),
}  # fmt: skip
