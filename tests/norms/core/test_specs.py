"""A spec is made of its function: what it hands on, what it refuses when the class is made, and what help() shows."""

import dataclasses
import inspect
import pickle
import re
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm.norms.affine_norm import AffineNorm, HasAffine, HasAxisName, HasEpsilon, NormSpec
from jaxnorm.norms.base import Reducible, Stateless
from jaxnorm.norms.core.batch_base import BatchSpec
from jaxnorm.norms.core.docstrings import entries
from jaxnorm.norms.core.spec import DEFAULT, Spec
from tests import cases

CALLS = []


def center(x, scale=None, bias=None, *, power: int = 2, epsilon: float = 0.5, where=None, axis_name=None):
    """Keeps all that it was given in ``CALLS``.

    Args:
      x: data.
      power: an exponent
        of two lines.
      epsilon: added at the end.
    """
    CALLS.append(
        {"x": x, "scale": scale, "bias": bias, "power": power, "epsilon": epsilon, "where": where, "of": axis_name}
    )
    return x


class Center(AffineNorm):
    """A spec of a few lines.

    Attributes:
      use_bias: seldom.
    """

    function = staticmethod(center)
    power: int = dataclasses.field(default=DEFAULT, kw_only=False)
    use_bias: bool = False


def measure(x, scale=None, bias=None, *, moments=None, epsilon: float = 1e-5, where=None, axis_name=None):
    return x, (moments, where)


class Measure(BatchSpec, HasAxisName):
    function = staticmethod(measure)
    debias: bool = DEFAULT


def test_a_spec_hands_on_fields_weights_and_the_mask_by_name():
    spec = Center(3, epsilon=0.25, axis_name=["a", "b"])
    x, where = jnp.ones((2, 4)), jnp.ones((2, 4), bool)
    weights = jn.Affine(jnp.full(4, 2.0), None)
    y, stats = spec(weights, x, where=where)
    got = CALLS.pop()
    assert stats == ()
    assert y is x
    assert (got["power"], got["epsilon"], got["of"], got["bias"]) == (3, 0.25, ("a", "b"), None)
    assert got["x"] is x
    assert got["where"] is where
    assert got["scale"] is weights.scale


def test_statistics_go_by_the_word_of_the_function():
    x, where = jnp.ones(2), jnp.ones(2, bool)
    assert Measure()(jn.Affine(None, None), x, "given", where)[1] == ("given", where)
    assert Measure()(jn.Affine(None, None), x)[1] == (None, None)


def test_a_spec_is_a_frozen_value_with_the_defaults_of_its_functions():
    spec = Center()
    assert repr(spec) == "Center()"
    assert repr(Center(5, use_bias=True)) == "Center(power=5, use_bias=True)"
    assert Measure().debias is inspect.signature(jn.update_running).parameters["debias"].default
    assert pickle.loads(pickle.dumps(Center(5))) == Center(5) != Center(4)
    assert len({Center(), Center(2), dataclasses.replace(Center(5), power=2)}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.power = 3
    with pytest.raises(TypeError, match="Center: it takes power by position, and got 2 arguments"):
        Center(2, 0.5)
    assert str(inspect.signature(Center)).startswith("(power: int = 2, *, epsilon: float = 0.5, use_scale: bool = True")


def test_fields_of_a_class_come_first_and_those_named_again_keep_their_place():
    class Late(Center):
        bias_init: float = DEFAULT
        last: int = 0

    names = [field.name for field in dataclasses.fields(Late)]
    # A spec keeps the order of its base.
    assert names[names.index("bias_init") :] == ["bias_init", "axis_name", "axis_index_groups", "last"]
    assert Late(7, last=1).power == 7

    class Placed(AffineNorm):
        function = staticmethod(center)
        counted: ClassVar[int] = 0
        power: int = DEFAULT
        bias_init: float = DEFAULT
        last: int = 0

    names = [field.name for field in dataclasses.fields(Placed)]
    affine = ["use_scale", "use_bias", "scale_init", "bias_init"]
    assert names == ["power", "epsilon", *affine, "last", "axis_name", "axis_index_groups"]
    assert Placed().bias_init == 0.0


def make(*bases, **body):
    """A class with annotations of the fields among its entries."""
    annotations = {name: float for name, value in body.items() if not isinstance(value, staticmethod | tuple)}
    return type("Made", bases, {"__annotations__": annotations, **body})


CENTER = {"function": staticmethod(center)}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            {**CENTER, "power": 3},
            r"Made: the field power has the default 3, but the keyword power of center has .* 2\.",
        ),
        ({**CENTER, "power": 2.0}, r"Made: the field power has the default 2\.0, .* Write power = DEFAULT"),
        (CENTER, r"Made: center has the keyword power, but the spec has no field of this name\. Add power = DEFAULT"),
        (
            {**CENTER, "power": 2, "slope": DEFAULT},
            r"Made: slope = DEFAULT, but center has no keyword slope with a def",
        ),
        ({}, r"Made: a spec needs its function, got None\. Write function = staticmethod"),
        (
            {**CENTER, "power": dataclasses.field()},
            r"Made: the field power has no default, but the keyword power of center has the default 2",
        ),
    ],
)
def test_a_class_that_differs_from_its_function_is_refused(body, message):
    with pytest.raises(TypeError, match=message):
        make(AffineNorm, **body)


def test_a_default_that_differs_from_the_real_function_is_refused():
    """The same, with a fault planted into a spec of the package."""
    fields = {"function": staticmethod(jn.batch_norm), "axis": DEFAULT, "feature_axis": DEFAULT}
    with pytest.raises(
        TypeError, match=r"Made: the field epsilon has the default 0.001, but the keyword epsilon of batch"
    ):
        make(BatchSpec, HasAxisName, **fields, epsilon=1e-3)
    make(BatchSpec, HasAxisName, **fields, epsilon=1e-5)


def test_keywords_that_come_with_a_call_need_no_field():
    made = make(AffineNorm, **CENTER, passed=("where", "power"))
    made().apply(center, jn.Affine(None, None), jnp.ones(2), power=9)
    assert CALLS.pop()["power"] == 9


def test_weights_that_the_function_does_not_have_must_be_absent():
    def shift(x, bias=None, *, where=None):
        return x if bias is None else x + bias[None]

    made = make(HasAffine, Stateless, function=staticmethod(shift))
    x = jnp.zeros((1, 2))
    assert made()(jn.Affine(None, jnp.ones(2)), x)[0].tolist() == [[1.0, 1.0]]
    with pytest.raises(
        ValueError, match=r"Made: params.scale must be None, got an array of shape \(2,\). shift has no sca"
    ):
        made()(jn.Affine(jnp.ones(2), None), x)
    with pytest.raises(
        TypeError, match=r"Made: params must be Affine\(scale, bias\) as made by init\(shape\), got a tup"
    ):
        made()((), x)


@pytest.mark.parametrize("base", [Spec, NormSpec, HasEpsilon, AffineNorm, BatchSpec])
def test_bases_are_no_specs_of_their_own(base):
    assert not dataclasses.is_dataclass(base)


# ---- what help() shows

SPECS = [kind for kind in cases.PUBLIC.values() if isinstance(kind, type) and issubclass(kind, Spec)]


@pytest.mark.parametrize("kind", SPECS, ids=lambda kind: kind.__name__)
def test_help_has_each_field_once_with_the_text_of_the_function(kind):
    doc = inspect.getdoc(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    assert list(entries(doc, "Attributes:")) == names
    assert [name for name in names if len(re.findall(rf"^  {name}: ", doc, re.MULTILINE)) != 1] == []
    source = inspect.getsource(kind)
    told = entries(inspect.getdoc(kind.function), "Args:")
    repeated = [name for name in names if name in told and told[name].strip() in source]
    assert repeated == [], "the text stands in the function already"


def test_texts_come_from_the_class_then_the_function_then_the_bases():
    got = entries(inspect.getdoc(Center), "Attributes:")
    assert got["power"] == "  power: an exponent\n    of two lines."
    assert got["use_bias"] == "  use_bias: seldom."
    assert got["use_scale"] == "  use_scale: whether there is a scale."
    assert inspect.getdoc(Center).startswith("A spec of a few lines.\n\nAttributes:\n  power: an")


# ---- what a cell may use


class Plain:
    """Layer normalization of a user, with the methods of the protocol and nothing more."""

    def param_shape(self, shape):
        return shape[-1:]

    def init(self, shape, dtype=jnp.float32):
        return jn.Affine(jnp.ones(shape, dtype), jnp.zeros(shape, dtype))

    def initial_stats(self, shape, dtype=jnp.float32):
        return ()

    def __call__(self, params, x, stats=None, where=None):
        return jn.layer_norm(x, params.scale, params.bias, where=where), ()

    def train(self, params, x, running, where=None):
        return self(params, x, None, where)

    def update_running(self, running, measured):
        return ()

    def check_site(self, caller):
        pass

    def __hash__(self):
        return hash(type(self))

    def __eq__(self, other):
        return type(self) is type(other)


class Telling(Plain):
    """The same, and it says that the mean may be subtracted elsewhere, and the bias added elsewhere."""

    subtracts_feature_mean = True
    adds_bias_last = True

    def without_mean(self):
        return jn.RMSNorm(use_bias=True)


class Lying(Telling):
    """Says something wrong: a cell that asks gives another result."""

    def without_mean(self):
        return jn.Identity()


def outputs(norm, rng):
    cell = jn.LSTM(3, norm=norm)
    params = cases.randomize(cell.init(jax.random.key(0), 4), rng)
    return np.asarray(jn.unroll(cell, params, jnp.asarray(rng.standard_normal((5, 2, 4)), jnp.float32)).outputs)


def test_a_normalizer_of_a_user_works_with_and_without_what_cells_may_use():
    want = outputs(jn.LayerNorm(), np.random.default_rng(1))
    for norm in (Plain(), Telling()):
        assert isinstance(norm, jn.Normalizer)
        np.testing.assert_allclose(outputs(norm, np.random.default_rng(1)), want, rtol=2e-5, atol=2e-6)
    assert not isinstance(Plain(), Reducible)
    assert abs(outputs(Lying(), np.random.default_rng(1)) - want).max() > 1e-2


@pytest.mark.parametrize("case", cases.NORMS, ids=str)
def test_promises_hold(case, rng):
    """Without the mean it is the same for centered data; a bias that is added last can be added by the caller."""
    spec = case.spec
    if not isinstance(spec, Reducible):
        assert isinstance(spec, jn.Identity)
        return
    params = cases.randomize(spec.init(spec.param_shape(case.shape)), rng)
    x = jnp.asarray(3.0 + rng.standard_normal(case.shape), jnp.float32)
    if spec.subtracts_feature_mean:
        centered = x - x.mean(axis=-1, keepdims=True)
        y, _ = spec.without_mean()(params, centered)
        np.testing.assert_allclose(y, spec(params, x)[0], rtol=1e-4, atol=1e-5)
        assert not spec.without_mean().subtracts_feature_mean
    else:
        assert isinstance(spec, jn.LayerNorm) or spec.without_mean() is spec
    if spec.adds_bias_last and params.bias is not None:
        y, _ = spec(params._replace(bias=None), x)
        shift = np.asarray(spec(params, x)[0], np.float64) - np.asarray(y, np.float64)
        np.testing.assert_allclose(np.sort(np.unique(shift.round(4))), np.sort(params.bias.ravel()), atol=2e-4)


def test_layer_norm_keeps_its_fields_without_the_mean():
    norm = jn.LayerNorm(epsilon=0.3, use_scale=False, bias_init=2.0)
    assert norm.without_mean() == jn.RMSNorm(epsilon=0.3, use_scale=False, use_bias=True, bias_init=2.0)
    assert norm.subtracts_feature_mean
    assert not jn.LayerNorm(axis_name="model").subtracts_feature_mean
    assert not jn.LayerNorm(0).subtracts_feature_mean
