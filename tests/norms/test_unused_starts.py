"""A start of a weight that the spec does not have is refused: nothing that is passed is ignored."""

import jax
import pytest

import jaxnorm as jn
from jaxnorm import zoo

ONES = jax.nn.initializers.ones
SPECS = {
    "LayerNorm": (jn.LayerNorm, {}),
    "RMSNorm": (jn.RMSNorm, {}),
    "BatchNorm": (jn.BatchNorm, {}),
    "GroupNorm": (jn.GroupNorm, {"num_groups": 2}),
    "InstanceNorm": (jn.InstanceNorm, {}),
    "ScaleNorm": (zoo.ScaleNorm, {}),
    "BatchRenorm": (zoo.BatchRenorm, {}),
}


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("start", [0.5, ONES], ids=["number", "initializer"])
@pytest.mark.parametrize("weight", ["scale", "bias"])
def test_it_names_the_weight(name, start, weight):
    kind, options = SPECS[name]
    with pytest.raises(ValueError, match=f"^{name}: {weight}_init is where the {weight} starts, but use_"):
        kind(**options, **{f"use_{weight}": False, f"{weight}_init": start})
    kind(**options, **{f"use_{weight}": True, f"{weight}_init": start})


def test_a_norm_without_bias_by_default_says_so_too():
    with pytest.raises(ValueError, match="RMSNorm: bias_init is where the bias starts"):
        jn.RMSNorm(bias_init=1.0)
