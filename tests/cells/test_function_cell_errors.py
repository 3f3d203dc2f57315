"""What ``FunctionCell`` refuses: wrong functions, wrong carries, and arrays that are traced outside."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import jaxnorm as jn
from tests.tools.annotations import no_annotation_checks

XS = jnp.ones((3, 2, 1))
P = {"w": jnp.ones(())}


def good(params, carry, x):
    return carry, x


class Callable:
    __hash__ = None

    def __call__(self, params, carry, x):
        return carry, x


FUNCTIONS = {
    "a number": (3, r"FunctionCell: function must be a function \(params, carry, x\) that returns .* got the number 3"),
    "a class": (nn.LSTMCell, r"must be a function .* got the class LSTMCell of Flax"),
    "a cell": (jn.gru(4), r"must be a function .* got the cell spec GRU"),
    "a module": (nn.GRUCell(4), r"got Flax's GRUCell\. Write a function that calls module\.apply\(params, carry, x\)"),
    "the body of a scan": (lambda carry, x: (carry, x), r"got one of \(carry, x\)\. Its first argument is params"),
    "no hash": (Callable(), r"must be hashable, .* got an object of type Callable\. Write a plain function"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_no_step_is_refused(name):
    function, message = FUNCTIONS[name]
    with no_annotation_checks(), pytest.raises(TypeError, match=message):
        jn.FunctionCell(function, 0.0)


class Pair(NamedTuple):
    c: Any
    h: Any


START = {"h": jnp.zeros(2), "n": 0, "key": jax.random.key(0)}
RESULTS = {
    "the carry alone": (lambda p, c, x: c, TypeError, r"the pair \(carry, y\), got a dict with .*the carry alone"),
    "nothing": (lambda p, c, x: None, TypeError, r"must return the pair \(carry, y\), got None"),
    "three": (lambda p, c, x: (c, x, x), TypeError, r"the pair \(carry, y\), got a tuple with 3 entries"),
    "y first": (lambda p, c, x: (x, c), TypeError, r"carry\['h'\] is missing, .*carry\['n'\] is missing"),
    "one less": (
        lambda p, c, x: ({k: v for k, v in c.items() if k != "n"}, x),
        TypeError,
        r"function must return a carry with the structure it got, .*: carry\['n'\] is missing\.",
    ),
    "one more": (lambda p, c, x: (c | {"m": x}, x), TypeError, r"carry\['m'\] is not expected"),
    "another dtype": (
        lambda p, c, x: (c | {"h": c["h"].astype(jnp.bfloat16)}, x),
        TypeError,
        r"return carry\['h'\] in the dtype it got, float32, got bfloat16\. Cast it, .*\.astype\(carry\['h'\]\.dtype\)",
    ),
    "a float for an integer": (
        lambda p, c, x: (c | {"n": c["n"].astype(jnp.float32)}, x),
        TypeError,
        r"carry\['n'\] .*int32, got f",
    ),
    "a raw key": (
        lambda p, c, x: (c | {"key": jax.random.key_data(c["key"])}, x),
        TypeError,
        r"carry\['key'\] in the dtype it got, key<fry>, got uint32",
    ),
    "another shape": (
        lambda p, c, x: (c | {"h": c["h"][:, :1]}, x),
        ValueError,
        r"return carry\['h'\] in the shape it got, \(2, 2\), got \(2, 1\)\. Begin with the shape",
    ),
    "a mean over the batch": (
        lambda p, c, x: (c, {"loss": x.mean()}),
        ValueError,
        r"y\['loss'\] that function returns must begin with the axes of the batch, \(2,\), got shape \(\)",
    ),
    "a word": (lambda p, c, x: (c, {"loss": "x"}), TypeError, r"y\['loss'\] .* must be an array, got the string 'x'"),
    "a key out": (lambda p, c, x: (c, c["key"]), TypeError, r"y that function returns is a key\. Return .*key_data"),
}


@pytest.mark.parametrize("method", ["chunked", "scan"])
@pytest.mark.parametrize("name", RESULTS)
def test_wrong_results_are_named(name, method):
    function, kind, message = RESULTS[name]
    cell = jn.FunctionCell(function, START)
    with pytest.raises(kind, match=rf"FunctionCell: .*{message}"):
        jn.unroll(cell, P, XS, method=method)


def test_numbers_of_python_take_the_dtype_of_the_carry():
    start = {"h": jnp.zeros((), jnp.bfloat16), "n": 0, "done": False}
    cell = jn.FunctionCell(lambda p, c, x: ({"h": 0.5, "n": c["n"] + 1, "done": True}, 1.0 * x), start)
    with pytest.raises(ValueError, match=r"carry\['done'\] in the shape it got, \(2,\), got \(\)"):
        jn.unroll(cell, P, XS)
    out = jn.unroll(cell, P, XS[:, 0])
    assert {name: leaf.dtype.name for name, leaf in out.carry.items()} == {
        "h": "bfloat16",
        "n": "int32",
        "done": "bool",
    }


def test_a_declared_size_of_outputs_is_checked():
    assert jn.FunctionCell(good, 0.0, out_features=1).out_features == 1
    jn.unroll(jn.FunctionCell(good, 0.0, out_features=1), P, XS)
    with pytest.raises(ValueError, match=r"y must be an array with 4 features .*got shape \(2, 1\)"):
        jn.unroll(jn.FunctionCell(good, 0.0, out_features=4), P, XS)
    with pytest.raises(ValueError, match=r"y must be an array with 4 features .*got a dict with 'y'"):
        jn.unroll(jn.FunctionCell(lambda p, c, x: (c, {"y": x}), 0.0, out_features=4), P, XS)


STARTS = {
    "a word": (
        lambda: jn.FunctionCell(good, {"h": "zeros"}),
        TypeError,
        r"carry_init\['h'\] must be an array, .*'zeros'",
    ),
    "a shape": (lambda: jn.FunctionCell(good, {"h": object()}), TypeError, r"carry_init\['h'\] must be an array"),
    "a shape of keys": (
        lambda: jn.FunctionCell(good, jax.ShapeDtypeStruct((), jax.random.key(0).dtype)),
        TypeError,
        r"carry_init is a key without a value\. Write jax\.random\.key\(0\)",
    ),
    "one for all": (
        lambda: jn.FunctionCell(good, lambda batch_shape: {"h": jnp.zeros(4)}).initial_carry((2,)),
        ValueError,
        r"carry\['h'\] must begin with the axes of the batch, \(2,\), got shape \(4,\)",
    ),
    "one key for all": (
        lambda: jn.FunctionCell(good, lambda batch_shape, key: (key,)).initial_carry((2,), key=jax.random.key(0)),
        ValueError,
        r"carry\[0\] must begin .* got shape \(\)\. .* write jax\.random\.split\(key, batch_shape\)",
    ),
    "no weights": (
        lambda: jn.FunctionCell(good, lambda batch_shape, params: params["h"]).initial_carry((2,)),
        ValueError,
        r"carry_init takes params, but params is None\. Pass params=the weights",
    ),
    "weights for the function": (
        lambda: jn.FunctionCell(good, 0.0, params_init={"w": 1.0}),
        TypeError,
        r"params_init must be a function \(key, in_features\) that returns params, got a dict with 'w'",
    ),
    "no init": (
        lambda: jn.FunctionCell(good, 0.0).init(jax.random.key(0), 3),
        ValueError,
        r"FunctionCell\.init: there is no params_init\. Pass FunctionCell\(function, carry_init, params_init=",
    ),
    "a carry of floats for keys": (
        lambda: jn.unroll(jn.FunctionCell(good, jax.random.key(0)), P, XS, carry=jnp.zeros((2, 4))),
        (TypeError, ValueError),
        r"unroll: carry must have",
    ),
}


@pytest.mark.parametrize("name", STARTS)
def test_wrong_starts_are_named(name):
    make, kind, message = STARTS[name]
    with no_annotation_checks(), pytest.raises(kind, match=message):
        make()


# ---- arrays that are traced outside


class Model:
    """An object whose method is a step; its weight may be traced."""

    def __init__(self, w):
        self.w = w

    def step(self, params, carry, x):
        return carry, x * self.w


class Deep:
    def __init__(self, w):
        self.inner = Model(w)

    def step(self, params, carry, x):
        return carry, x * self.inner.w


def default(w):
    def step(params, carry, x, *, w=w):
        return carry, x * w

    return step


def inside(w):
    def scale(x):
        return x * w

    return lambda params, carry, x: (carry, scale(x))


def late(w):
    box = []
    cell = jn.FunctionCell(lambda params, carry, x: (carry, x * box[0]), 0.0)
    box.append(w)
    return cell


CAPTURES = {
    "a closure": lambda w: jn.FunctionCell(lambda params, carry, x: (carry, x * w), 0.0),
    "an inner function": lambda w: jn.FunctionCell(inside(w), 0.0),
    "a tree in a closure": lambda w: jn.FunctionCell(
        (lambda t: lambda params, carry, x: (carry, x * t["w"]))({"w": w}), 0.0
    ),
    "a partial": lambda w: jn.FunctionCell(functools.partial(lambda w, params, carry, x: (carry, x * w), w), 0.0),
    "a keyword of a partial": lambda w: jn.FunctionCell(functools.partial(default(1.0), w=w), 0.0),
    "a default": lambda w: jn.FunctionCell(default(w), 0.0),
    "under jit": lambda w: jn.FunctionCell(jax.jit(inside(w)), 0.0),
    "a method": lambda w: jn.FunctionCell(Model(w).step, 0.0),
    "an object in an object": lambda w: jn.FunctionCell(Deep(w).step, 0.0),
    "a list that is filled later": late,
}
TRANSFORMED = {
    "jit": lambda loss: jax.jit(loss)(1.0),
    "grad": lambda loss: jax.grad(loss)(1.0),
    "vmap": lambda loss: jax.vmap(loss)(jnp.ones(2)),
    "grad of jit": lambda loss: jax.grad(jax.jit(loss))(1.0),
}


@pytest.mark.parametrize("method", ["chunked", "scan"])
@pytest.mark.parametrize("name", CAPTURES)
def test_a_traced_array_in_the_function_is_refused(name, method):
    def loss(w):
        return jn.unroll(CAPTURES[name](w), P, XS, method=method).outputs.sum()

    for transformed in TRANSFORMED.values():
        with pytest.raises(
            TypeError, match=r"FunctionCell: function uses an array .* from outside .* Pass it in params"
        ):
            transformed(loss)
    assert loss(2.0) == loss(jnp.float32(2.0)) == 12.0  # a constant may be closed over


SEEN_AT_ONCE = [name for name in CAPTURES if name not in ("a list that is filled later", "an object in an object")]


@pytest.mark.parametrize("name", SEEN_AT_ONCE)
def test_what_a_function_holds_is_seen_when_the_spec_is_made(name):
    with pytest.raises(TypeError, match=r"FunctionCell: function uses an array \(float32\[\]\) from outside"):
        jax.jit(lambda w: (CAPTURES[name](w), w)[1])(1.0)


def test_an_object_that_changes_is_refused_while_its_array_is_traced():
    """The same function each time, so a program that was kept would hold the array of an earlier trace."""
    deep = Deep(jnp.float32(2.0))
    cell = jn.FunctionCell(deep.step, 0.0)

    def loss(w):
        deep.inner.w = w
        return jn.unroll(cell, P, XS).outputs.sum()

    for _ in range(2):
        with pytest.raises(TypeError, match="Pass it in params"):
            jax.grad(loss)(1.0)
    with pytest.raises(TypeError, match="Pass it in params"):
        jn.unroll(cell, P, XS)  # what jax.grad left behind


def test_a_traced_array_in_the_start_is_refused():
    def tree(h):
        return jn.unroll(jn.FunctionCell(good, {"h": h}), P, XS).carry["h"].sum()

    def function(h):
        return jn.unroll(jn.FunctionCell(good, lambda batch_shape: jnp.broadcast_to(h, batch_shape)), P, XS).carry.sum()

    def late_start(h):
        box = []
        cell = jn.FunctionCell(good, lambda batch_shape: jnp.broadcast_to(box[0], batch_shape))
        box.append(h)
        return jn.unroll(cell, P, XS).carry.sum()

    with pytest.raises(TypeError, match=r"carry_init uses an array .*from outside"):
        jax.grad(late_start)(1.0)
    with pytest.raises(TypeError, match=r"carry_init\['h'\] is traced .* a function \(batch_shape, params\)"):
        jax.grad(tree)(1.0)
    with pytest.raises(TypeError, match=r"carry_init uses an array .*from outside"):
        jax.grad(function)(1.0)


# ---- around it


def test_wrappers_and_stacks_say_what_they_miss():
    tree = jn.FunctionCell(
        lambda p, c, x: (c, {"y": x}), {"h": 0.0}, params_init=lambda key, n: {"w": jnp.ones((1, 1))}
    )
    with pytest.raises(
        TypeError, match=r"Zoneout: the carry of FunctionCell must be a NamedTuple with an entry h, got a d"
    ):
        jn.Zoneout(tree, rate=0.1)
    with pytest.raises(ValueError, match=r"FunctionCell has no weight 'kernel', only a dict with 'w'"):
        jn.Reparametrized(tree, jn.WeightNorm()).init(jax.random.key(0), 1)
    with pytest.raises(ValueError, match="has no recurrent kernel"):
        jn.unroll(jn.VariationalDropout(tree, rate=0.1), P, XS, key=jax.random.key(0))
    with no_annotation_checks(), pytest.raises(TypeError, match=r"unroll: xs must be an array, got a dict with 'y'"):
        jn.stack([tree, tree], [P, P], XS)
    with pytest.raises(TypeError, match=r"residual_stack: the outputs of layer 1 must be an array, got a dict"):
        jn.residual_stack([jn.FunctionCell(good, 0.0), tree], [P, P], XS)
    with pytest.raises(TypeError, match=r"skip_stack: the outputs of layer 0 must be an array, got a dict"):
        jn.skip_stack([tree], [P], XS)
    with pytest.raises(TypeError, match=r"bidirectional: the outputs must be arrays, got a dict .*Pass merge"):
        jn.bidirectional([tree, tree], [P, P], XS)


def test_complex_numbers_are_refused_by_all_other_cells():
    cell = jn.gru(2)
    params, xs = cell.init(jax.random.key(0), 1), XS.astype("complex64")
    with no_annotation_checks(), pytest.raises(TypeError, match=r"unroll: xs must be real, got complex64\. Put both"):
        jn.unroll(cell, params, xs)
    with pytest.raises(
        TypeError, match=r"unroll: params\.kernel must be real, got complex64\. .*jaxnorm\.FunctionCell"
    ):
        jn.unroll(cell, params._replace(kernel=params.kernel.astype("complex64")), XS)
    for entrance in (lambda x: jn.layer_norm(x), lambda x: jn.Identity()((), x), lambda x: jn.moments(x)):
        with no_annotation_checks(), pytest.raises(TypeError, match=r": x must be real, got complex64"):
            entrance(xs)
