"""``save="products"``: the same values and gradients, six products a step instead of eight, in the compute dtype."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, NamedSharding, PartitionSpec

import jaxnorm as jn
from jaxnorm.cells.wrappers.base import CellWrapper
from tests import cases
from tests.contracts import cell_checks

STEPS, BATCH, HIDDEN = 6, 3, 4


def shapes(cell, dtype=jnp.float32, steps=STEPS, batch=BATCH):
    params = jax.eval_shape(lambda key: cell.init(key, 2), jax.random.key(0))
    return params, jax.ShapeDtypeStruct((steps, batch, 2), dtype)


def count_products(cell, **options):
    """The matrix products of a gradient of all weights and the inputs; loops count once."""
    loss = lambda params, xs: jnp.sum(jn.unroll(cell, params, xs, chunk=3, **options).outputs)  # noqa: E731
    program = jax.make_jaxpr(jax.grad(loss, (0, 1)))(*shapes(cell))
    return sum(e.primitive.name == "dot_general" for e in cell_checks.equations(program.jaxpr))


def saved_shapes(cell, dtype=jnp.float32, **options):
    """Shapes and dtypes of what the backward pass finds besides arguments."""
    saved = jax.eval_shape(
        lambda params, xs: jax.vjp(lambda p, x: jn.unroll(cell, p, x, chunk=3, **options).outputs, params, xs)[1],
        *shapes(cell, dtype),
    )
    return sorted((leaf.shape, leaf.dtype.name) for leaf in jax.tree.leaves(saved) if leaf.shape[:1] == (STEPS,))


@pytest.mark.parametrize("make", [jn.lstm, jn.ln_lstm, jn.ln_gru])
def test_two_products_a_step_less(make):
    assert count_products(make(HIDDEN), save="carries") == 8
    assert count_products(make(HIDDEN), save="products") == 6


def test_products_are_saved_in_the_compute_dtype():
    cell, bfloat16 = jn.ln_lstm(HIDDEN, dtype=jnp.bfloat16), jnp.bfloat16
    assert saved_shapes(cell, bfloat16, save="products").count(((STEPS, BATCH, 4 * HIDDEN), "bfloat16")) == 2
    assert ((STEPS, BATCH, 4 * HIDDEN), "bfloat16") not in saved_shapes(cell, bfloat16, save="carries")
    assert saved_shapes(jn.ln_lstm(HIDDEN), save="products").count(((STEPS, BATCH, 4 * HIDDEN), "float32")) == 2


def test_a_cell_without_recurrent_products_saves_those_of_the_inputs():
    cell = jn.zoo.MinGRU(HIDDEN)
    more = len(saved_shapes(cell, save="products")) - len(saved_shapes(cell, save="carries"))
    assert more == len(jax.tree.leaves(jax.eval_shape(cell.project_inputs, *prepared(cell))))


def prepared(cell):
    params, xs = shapes(cell)
    return jax.eval_shape(lambda params: cell.prepare(params, dtype=jnp.float32), params), xs


def test_the_forward_pass_uses_the_rounded_products(rng):
    """One value whether it is differentiated or not, and its derivative that of this value."""
    cell = jn.ln_lstm(HIDDEN, dtype=jnp.bfloat16)
    params = cases.random_cell_params(cell, rng)
    xs = cases.random_inputs(rng, STEPS, (BATCH,)).astype(jnp.bfloat16)

    def run(params, save):
        return jn.unroll(cell, params, xs, save=save, chunk=4).carry.c

    plain = jax.jit(run, static_argnums=1)(params, "products")
    value, transpose = jax.vjp(lambda params: run(params, "products"), params)
    np.testing.assert_array_equal(plain, value)
    assert np.any(plain != run(params, "carries")), "nothing was rounded"
    gradient, exact = transpose(value)[0], jax.grad(lambda params: jnp.sum(run(params, "carries") ** 2) / 2)(params)
    for got, expected in zip(jax.tree.leaves(gradient), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0.1, atol=0.05 * float(jnp.max(jnp.abs(expected))))


def test_second_derivatives(rng, x64):
    cell = jn.ln_gru(HIDDEN, param_dtype=jnp.float64)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape)), cell.init(jax.random.key(0), 2))
    xs = jnp.asarray(rng.standard_normal((STEPS, BATCH, 2)))

    def curvature(**options):
        def loss(xs):
            return jnp.sum(jn.unroll(cell, params, xs, **options).outputs ** 3)

        return jax.jit(jax.grad(lambda xs: jnp.sum(jax.grad(loss)(xs) ** 2)))(xs)

    expected = curvature(method="scan")
    np.testing.assert_allclose(curvature(chunk=4, save="products"), expected, rtol=1e-9, atol=1e-11)


@dataclasses.dataclass(frozen=True)
class WideProducts(CellWrapper):
    """Its recurrent products are three times as large as the gates."""

    def project_state(self, weights, carry):
        return [super().project_state(weights, carry)] * 3

    def step(self, weights, carry, t):
        return super().step(weights, carry, t._replace(h_proj=sum(t.h_proj)))


def default_of(cell, xs_dtype=jnp.float32):
    made = saved_shapes(cell, xs_dtype)
    return next(save for save in ("products", "carries") if saved_shapes(cell, xs_dtype, save=save) == made)


def test_the_default_on_cpus_is_a_choice_by_bytes():
    """Products, unless they would be rounded, or the recurrent ones are larger than two arrays of gates."""
    assert default_of(jn.ln_lstm(HIDDEN)) == "products"
    assert default_of(jn.ln_lstm(HIDDEN, dtype=jnp.bfloat16), jnp.bfloat16) == "carries"
    assert default_of(WideProducts(jn.lstm(HIDDEN))) == "carries"


def test_the_default_elsewhere_is_carries(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert default_of(jn.ln_lstm(HIDDEN + 1)) == "carries", "of another size: programs are kept for all tests"


def test_the_default_for_devices_of_a_mesh_that_are_not_there_is_carries():
    device = AbstractDevice(device_kind="TPU v5 lite", num_cores=1, platform="tpu")
    mesh = AbstractMesh((2,), ("data",), axis_types=(AxisType.Auto,), abstract_device=device)
    sharding = NamedSharding(mesh, PartitionSpec(None, "data"))
    cell = jn.ln_lstm(HIDDEN)
    params, _ = shapes(cell)
    xs = jax.ShapeDtypeStruct((STEPS, 4, 2), jnp.float32, sharding=sharding)
    saved = jax.eval_shape(lambda p, x: jax.vjp(lambda p: jn.unroll(cell, p, x).outputs, p)[1], params, xs)
    assert not any(leaf.shape == (STEPS, 4, 4 * HIDDEN) for leaf in jax.tree.leaves(saved))


@pytest.mark.usefixtures("unhooked")  # a symbol is no int for the checks of annotations
def test_the_default_for_sizes_that_are_not_known_is_carries():
    cell = jn.ln_lstm(HIDDEN)
    params, _ = shapes(cell)
    xs = jax.ShapeDtypeStruct((STEPS, *export.symbolic_shape("b"), 2), jnp.float32)
    saved = jax.eval_shape(lambda p, x: jax.vjp(lambda p: jn.unroll(cell, p, x).outputs, p)[1], params, xs)
    assert not any(leaf.shape[-1:] == (4 * HIDDEN,) and leaf.ndim == 3 for leaf in jax.tree.leaves(saved))


def test_save_belongs_to_the_chunked_method():
    cell = jn.lstm(HIDDEN)
    with pytest.raises(ValueError, match=r"save must be one of .*products"):
        jn.unroll(cell, cell.init(jax.random.key(0), 2), jnp.ones((3, 1, 2)), save="all")
    with pytest.raises(ValueError, match="chunk and save belong to the chunked method"):
        jn.unroll(cell, cell.init(jax.random.key(0), 2), jnp.ones((3, 1, 2)), save="products", method="scan")
