"""The MGU from and to Flax linen: with and without a reset, by module and by names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm import convert
from tests.convert import tools
from tests.convert.tools import HIDDEN


@pytest.fixture
def linen():
    module = tools.peer("flax.linen")
    with tools.its_own_rules():
        yield module


@pytest.mark.parametrize("reset_gate", [True, False])
def test_there_and_back(linen, rng, reset_gate):
    cell = linen.MGUCell(HIDDEN, reset_gate=reset_gate)
    module = linen.RNN(cell)
    xs = np.moveaxis(tools.random_inputs(rng), 0, 1)
    variables = tools.random_like(module.init(jax.random.key(0), xs), rng)
    found = convert.linen.load(variables, module)
    assert found.spec == jn.zoo.MGU(HIDDEN, reset="recurrent" if reset_gate else "none")
    assert found.notes == ("time_major=False: pass time_axis=-2",)
    outputs = jn.unroll(found.spec, found.params, jnp.asarray(xs), time_axis=-2).outputs
    tools.agree(outputs, module.apply(variables, xs))
    exported = convert.linen.export(found.spec, found.params)
    tools.same(jax.tree.map(jnp.asarray, exported["params"]), variables["params"]["cell"])
    tools.same(convert.linen.load(exported).params, found.params)  # names tell the rest


def test_it_starts_as_there(linen):
    """Kernels of the same distributions, and a gate that begins open."""
    cell = linen.MGUCell(64)
    x = jnp.zeros((1, 32))
    there = cell.init(jax.random.key(0), cell.initialize_carry(jax.random.key(1), x.shape), x)["params"]
    here = jn.zoo.MGU(64).init(jax.random.key(0), 32)
    np.testing.assert_array_equal(here.bias, np.concatenate([there["if"]["bias"], there["in"]["bias"]]))
    np.testing.assert_allclose(np.std(here.kernel[:, 0]), np.std(there["if"]["kernel"]), rtol=0.1)
    for u in (here.recurrent[:, 1], there["hn"]["kernel"]):
        np.testing.assert_allclose(u.T @ u, np.eye(64), atol=1e-5)


def test_what_flax_has_not_is_refused(linen, rng):
    for cell, match in (
        (jn.zoo.mgu(HIDDEN), r"reset='state' cannot be represented"),
        (jn.zoo.MGU(HIDDEN, update_gate="renew"), r"update_gate='renew' cannot be represented"),
        (jn.zoo.MGU(HIDDEN, norm=jn.LayerNorm()), r"norm=CellNorms.* cannot be represented"),
    ):
        with pytest.raises(ValueError, match=match):
            convert.linen.export(cell, tools.random_params(cell, rng))
    plain = jn.zoo.MGU(HIDDEN)
    arrays = convert.linen.export(plain, tools.random_params(plain, rng))["params"]
    with pytest.raises(ValueError, match=r"spec has update_gate='renew', but .* update_gate='keep'"):
        convert.linen.load(arrays, jn.zoo.MGU(HIDDEN, update_gate="renew"))
    with pytest.raises(ValueError, match=r"reset_gate=False, but hn/bias is there"):
        convert.linen.load(arrays, linen.MGUCell(HIDDEN, reset_gate=False))
    with pytest.raises(ValueError, match=r"MGUCell with another gate_fn"):
        convert.linen.load(arrays, linen.MGUCell(HIDDEN, gate_fn=jax.nn.hard_sigmoid))
    with pytest.raises(ValueError, match=r"arrays of a cell like MGU under the prefix 'encoder/cell/'"):
        convert.linen.load({"encoder": {"cell": arrays}})
    with pytest.raises(ValueError, match=r"arrays of a cell like MGU under the prefix 'encoder/cell/'"):
        convert.linen.load({"encoder": {"cell": arrays}}, prefix="encoder/")
    with pytest.raises(ValueError, match=r"in/kernel, in/bias are missing"):
        convert.linen.load({name: layer for name, layer in arrays.items() if name != "in"})
