"""What the methods of a user's own cell return is checked, so that errors name the method and not the loop."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import pytest

import jaxnorm as jn
from jaxnorm.cells import CellBase


class Carry(NamedTuple):
    h: Any


class Params(NamedTuple):
    kernel: Any
    decay: Any
    norm: Any
    carry: Any = None


@dataclasses.dataclass(frozen=True)
class Decay(CellBase):
    """h = tanh(x W + u h)."""

    carry_type: ClassVar[type] = Carry
    multiplies_state: ClassVar[bool] = False

    def init_params(self, key, in_features):
        kernel = jax.random.normal(key, (in_features, self.hidden_features))
        return Params(kernel, kernel[0], self.fresh_norms(key), self.fresh_carry())

    def prepare(self, params, *, dtype=None, batch_shape=(), key=None):
        return params

    def project_inputs(self, weights, xs):
        return xs @ weights.kernel

    def normalize_inputs(self, weights, xs, products, stats, where, measured=None):
        return products, jn.CellNorms()

    def project_state(self, weights, carry):
        return jnp.einsum("...h,h->...h", carry.h, weights.decay)

    def step(self, weights, carry, t):
        h = jnp.tanh(t.x_proj + t.h_proj)
        return Carry(h), h, jn.CellNorms()


@dataclasses.dataclass(frozen=True)
class Other(Decay):
    """With another method of the name, or with other attributes."""

    name: str = dataclasses.field(default="", kw_only=True)
    method: Any = dataclasses.field(default=None, kw_only=True)

    def __getattribute__(self, name):
        if name == object.__getattribute__(self, "name"):
            return object.__getattribute__(self, "method")
        return object.__getattribute__(self, name)


def gradient(cell, method):
    params, xs = cell.init(jax.random.key(0), in_features=3), jnp.ones((5, 2, 3))
    return jax.grad(lambda params: jnp.sum(jn.unroll(cell, params, xs, method=method).outputs))(params)


def steps(change):
    return {"name": "step", "method": lambda weights, carry, t: change(t.x_proj)}


NONE = jn.CellNorms()
RESULTS = {
    "pair": (steps(lambda h: (Carry(h), h)), r"step must return \(carry, y, moments\), got a tuple with 2 entries"),
    "array": (steps(lambda h: (h, h, NONE)), r"step must return .* structure it got, Carry, got an array with shape"),
    "shape": (
        steps(lambda h: (Carry(h[:, :3]), h, NONE)),
        r"step must return carry.h in the shape it got, \(2, 4\), got \(2, 3\)",
    ),
    "dtype": (
        steps(lambda h: (Carry(h.astype(jnp.bfloat16)), h, NONE)),
        r"step must return carry.h in the dtype it got, float32, got",
    ),
    "nested": (steps(lambda h: (Carry((h, h)), h, NONE)), r"step must return a carry of the structure it got, PyTree"),
    "products": (
        {"name": "normalize_inputs", "method": lambda weights, xs, products, *_: products},
        r"normalize_inputs must return \(x_proj, moments\), got an array with shape \(5, 2, 4\)",
    ),
}


@pytest.mark.parametrize("method", ["scan", "chunked"])
@pytest.mark.parametrize("fault", RESULTS)
def test_results_of_another_form_are_refused(fault, method):
    other, message = RESULTS[fault]
    gradient(Decay(4), method)
    with pytest.raises((TypeError, ValueError), match=rf"Other\.{message}"):
        gradient(Other(4, **other), method)


def test_a_list_and_a_number_of_python_are_results_too():
    class Counted(NamedTuple):
        h: Any
        total: Any

    @dataclasses.dataclass(frozen=True)
    class Scalar(Decay):
        carry_type: ClassVar[type] = Counted

        def initial_carry(self, batch_shape, **_):
            return Counted(jnp.zeros((*batch_shape, self.hidden_features)), jnp.zeros(()))

        def step(self, weights, carry, t):
            return [Counted(jnp.tanh(t.x_proj + t.h_proj), 1.0), t.x_proj, NONE]

    gradient(Scalar(4), "scan")


@pytest.mark.parametrize(
    "product",
    [lambda weights, carry: carry.h * carry.h, lambda weights, carry: jnp.tanh(carry.h)],
    ids=["square", "tanh"],
)
def test_a_product_of_the_state_that_is_not_linear_is_refused(product):
    cell = Other(4, name="project_state", method=product)
    gradient(cell, "scan")
    with pytest.raises(TypeError, match=r"Other.project_state must be linear in the carry"):
        gradient(cell, "chunked")


def test_a_normalizer_without_a_site_is_refused():
    with pytest.raises(
        ValueError, match=r"Decay: norm must be left out: this cell has no site for a norm; got LayerNorm\(\)"
    ):
        Decay(4, norm=jn.LayerNorm())

    @dataclasses.dataclass(frozen=True)
    class Named(Decay):
        optional_sites: ClassVar[tuple[str, ...]] = ("cell",)

    with pytest.raises(ValueError, match=r"Named: norm must name its site: CellNorms\(cell=...\)"):
        Named(4, norm=jn.LayerNorm())
    assert Named(4, norm=jn.CellNorms(cell=jn.LayerNorm())).sites.cell == jn.LayerNorm()


def test_attributes_of_a_class_are_checked():
    class Letter(NamedTuple):
        s: Any

    @dataclasses.dataclass(frozen=True)
    class WithoutH(Decay):
        carry_type: ClassVar[type] = Letter

    @dataclasses.dataclass(frozen=True)
    class Plural(Decay):
        default_sites: ClassVar[tuple[str, ...]] = ("inputs",)

    with pytest.raises(TypeError, match=r"WithoutH: carry_type must have an entry h, .* got s"):
        WithoutH(4)
    with pytest.raises(ValueError, match=r"Plural: default_sites must name places of CellNorms, .* got 'inputs'"):
        Plural(4)
