"""A spec that holds an initializer made in place: the loop is compiled once, ``init`` draws with it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm as jn
import jaxnorm.linen as jl
import jaxnorm.nnx as jx
from jaxnorm._base.typing import Initializer
from jaxnorm.engine.arguments.stripped import initializer_defaults, without_initializers
from jaxnorm.engine.unroll import _unroll
from tests import cases

XS = jnp.ones((3, 2, cases.IN_FEATURES))


def fresh():
    """An initializer that equals no other one."""
    return jax.nn.initializers.normal(0.1)


def lstm(**options):
    return jn.LSTM(4, kernel_init=fresh(), recurrent_init=(fresh(), *[fresh()] * 3), forget_bias=fresh(), **options)


class Shifted(jn.LayerNorm):
    """A normalizer of a user's own, with an initializer."""

    shift_init: Initializer = jax.nn.initializers.zeros


MAKE = {
    "cell": lstm,
    "joint": lambda: jn.LSTM(4, kernel_init=jn.initializers.Joint(fresh())),
    "wrapped twice": lambda: jn.Zoneout(jn.DropConnect(lstm(), rate=0.5, deterministic=True), deterministic=True),
    "reparametrized": lambda: jn.Reparametrized(lstm(), {"recurrent": jn.WeightNorm()}),
    "norm at a site": lambda: jn.LSTM(4, norm=jn.CellNorms(recurrent=Shifted(shift_init=fresh()), cell=jn.LayerNorm())),
    "no bias to start": lambda: jn.zoo.MILSTM(4, use_bias=False, forget_bias=0.0, kernel_init=fresh()),
}


def compilations(call, times=3):
    _unroll.clear_cache()
    for _ in range(times):
        call()
    return _unroll._cache_size()


@pytest.mark.parametrize("name", MAKE)
def test_unroll_is_compiled_once(name):
    params = MAKE[name]().init(jax.random.key(0), cases.IN_FEATURES)
    assert MAKE[name]() != MAKE[name]()
    assert compilations(lambda: jn.unroll(MAKE[name](), params, XS)) == 1


def test_stacks_and_flax_modules_compile_once():
    params = [lstm().init(jax.random.key(0), cases.IN_FEATURES), lstm().init(jax.random.key(0), 4)]
    assert compilations(lambda: jn.stack((lstm(), lstm()), params, XS)) == 2  # of different inputs
    assert compilations(lambda: jn.bidirectional((lstm(), lstm()), params[:1] * 2, XS)) == 2  # to and fro
    variables = jl.RNN(lstm()).init(jax.random.key(0), XS)
    assert compilations(lambda: jl.RNN(lstm()).apply(variables, XS)) == 1
    assert compilations(lambda: jx.RNN(lstm(), cases.IN_FEATURES, rngs=nnx.Rngs(0))(XS)) == 1
    step = jl.RNNCell(lstm())
    carry = step.initialize_carry(jax.random.key(0), XS[0].shape)
    variables = step.init(jax.random.key(0), carry, XS[0])
    assert compilations(lambda: jl.RNNCell(lstm()).apply(variables, carry, XS[0])) == 1


def with_fresh_initializers(cell):
    names = initializer_defaults(type(cell))
    inner = {"cell": with_fresh_initializers(cell.cell)} if hasattr(cell, "cell") else {}
    start = {name: fresh() for name in names if name.endswith("_init")}
    return dataclasses.replace(cell, **start, **inner)


@pytest.mark.parametrize("case", cases.CELLS, ids=str)
def test_cells_differ_by_their_initializers_for_init_only(case):
    one, other = with_fresh_initializers(case.cell), with_fresh_initializers(case.cell)
    assert one != other
    assert without_initializers(one) == without_initializers(other)
    assert without_initializers(without_initializers(one)) == without_initializers(one)
    kept = set(dataclasses.asdict(case.cell)) - set(initializer_defaults(type(case.cell))) - {"cell"}
    for name in kept:  # normalizers have initial values of their own
        assert getattr(without_initializers(one), name) == without_initializers(getattr(one, name))


@pytest.mark.parametrize("case", cases.NORMS, ids=str)
def test_normalizers_keep_all_but_their_initial_values(case):
    stripped = without_initializers(case.spec)
    for field in dataclasses.fields(case.spec):
        if not field.name.endswith("_init"):
            assert getattr(stripped, field.name) == getattr(case.spec, field.name)
    starts = [name for name in initializer_defaults(type(case.spec))
              if getattr(case.spec, f"use_{name.removesuffix('_init')}", True)]  # fmt: skip
    drawn = {name: fresh() for name in starts}
    assert without_initializers(dataclasses.replace(case.spec, **drawn)) == stripped


def test_a_spec_without_initializers_is_handed_on_as_it_is():
    for spec in (jn.LayerNorm(), jn.CellNorms(input=jn.LayerNorm()), jn.elman(4), jn.Zoneout(jn.elman(4)), "no spec"):
        assert without_initializers(spec) is spec


def test_init_draws_with_the_initializer():
    ones = jn.LSTM(4, kernel_init=lambda key, shape, dtype: jnp.ones(shape, dtype)).init(jax.random.key(0), 3)
    np.testing.assert_array_equal(ones.kernel, 1.0)
