"""Carries in the forms of other libraries: tuples, lists, dicts, arrays, NamedTuples by the names of their fields."""

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import FrozenDict

import jaxnorm as jn
from jaxnorm.engine.arguments.carry_forms import arrange, check_carry, fit_carry, give_back
from tests import cases

B, H = 2, cases.HIDDEN
C, HIDDEN = (jnp.full((B, H), value) for value in (0.3, -0.7))


class LSTMState(NamedTuple):
    """Haiku's, with the hidden state first."""

    hidden: Any
    cell: Any


class Other(NamedTuple):
    """Has as many entries, with names that say nothing."""

    first: Any
    second: Any


LSTM_FORMS = {
    "tuple": (C, HIDDEN),
    "list": [C, HIDDEN],
    "dict": {"h": HIDDEN, "c": C},
    "frozen dict": FrozenDict({"h": HIDDEN, "c": C}),
    "dict with aliases": {"hidden": HIDDEN, "cell": C},
    "Haiku": LSTMState(HIDDEN, C),
    "lists of numbers in arrays": (np.asarray(C, np.float64), np.asarray(HIDDEN, np.float16)),
    "another LSTM of ours": jn.zoo.ProjectedLSTMCarry(C, HIDDEN),
}
GRU_FORMS = {
    "array": HIDDEN,
    "array of NumPy": np.asarray(HIDDEN),
    "tuple": (HIDDEN,),
    "list": [HIDDEN],
    "dict": {"h": HIDDEN},
    "alias": {"hidden": HIDDEN},
    "another cell of ours": jn.ElmanCarry(HIDDEN),
}
OWN = {"lstm": jn.LSTMCarry(C, HIDDEN), "gru": jn.GRUCarry(HIDDEN)}
ROWS = [("lstm", name, form) for name, form in LSTM_FORMS.items()]
ROWS += [("gru", name, form) for name, form in GRU_FORMS.items()]


@pytest.mark.parametrize(("cell", "form"), [(c, f) for c, _, f in ROWS], ids=[f"{c}, {n}" for c, n, _ in ROWS])
def test_every_form_becomes_the_carry_of_the_cell_and_back(cell, form):
    own = OWN[cell]
    fitted = fit_carry("caller", "carry", form, own)
    assert type(fitted) is type(own)
    for name, entry, expected in zip(own._fields, fitted, own, strict=True):
        np.testing.assert_allclose(entry, expected, rtol=1e-3, err_msg=name)
        assert entry.dtype == expected.dtype
    back = give_back(own, form, cast=True)
    assert jax.tree.structure(back) == jax.tree.structure(form)
    for entry, expected in zip(jax.tree.leaves(back), jax.tree.leaves(form), strict=True):
        np.testing.assert_allclose(entry, expected, rtol=1e-3)
        assert entry.dtype == jnp.asarray(expected).dtype
    assert jax.tree.structure(give_back(own, form)) == jax.tree.structure(form)


@pytest.mark.parametrize("form", ["tuple", "Haiku", "dict with aliases"])
def test_unroll_takes_them_with_gradients(form, rng):
    """The gradient lies in the entry that was handed in, not in the one of the same place."""
    cell = jn.lstm(H)
    params, xs = cases.random_cell_params(cell, rng), cases.random_inputs(rng, 3, (B,))

    def loss(carry):
        out = jn.unroll(cell, params, xs, carry=carry)
        assert type(out.carry) is jn.LSTMCarry
        return jnp.sum(jnp.sin(out.outputs))

    value, gradient = jax.value_and_grad(loss)(LSTM_FORMS[form])
    expected, own = jax.value_and_grad(loss)(OWN["lstm"])
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    in_own_form = arrange(gradient, own)
    np.testing.assert_allclose(in_own_form.c, own.c, rtol=1e-5)
    np.testing.assert_allclose(in_own_form.h, own.h, rtol=1e-5)
    assert not np.allclose(own.c, own.h)


def test_stacks_and_directions_take_them(rng):
    cells = (jn.lstm(H), jn.gru(H))
    params = [
        cases.random_cell_params(cell, rng, size) for cell, size in zip(cells, (cases.IN_FEATURES, H), strict=True)
    ]
    xs = cases.random_inputs(rng, 3, (B,))
    ours = jn.stack(cells, params, xs, carry=[OWN["lstm"], OWN["gru"]])
    given = jn.stack(cells, params, xs, carry=((C, HIDDEN), HIDDEN))
    np.testing.assert_array_equal(given.outputs, ours.outputs)
    both = (cells[0], cells[0])
    ours = jn.bidirectional(both, [params[0]] * 2, xs, carry=jn.Directions(OWN["lstm"], OWN["lstm"]))
    given = jn.bidirectional(both, [params[0]] * 2, xs, carry=[LSTMState(HIDDEN, C), {"c": C, "h": HIDDEN}])
    np.testing.assert_array_equal(given.outputs, ours.outputs)


COUNTED = jn.CountedCarry(OWN["lstm"], jnp.array([2, 5], jnp.int32))


@pytest.mark.parametrize(
    "form",
    [
        jn.CountedCarry((C, HIDDEN), COUNTED.step),
        jn.CountedCarry(LSTMState(HIDDEN, C), COUNTED.step),
        {"carry": {"c": C, "h": HIDDEN}, "step": COUNTED.step},  # a checkpoint
    ],
)
def test_the_count_stays_with_its_carry(form):
    fitted = fit_carry("caller", "carry", form, COUNTED)
    assert type(fitted) is jn.CountedCarry
    assert type(fitted.carry) is jn.LSTMCarry
    np.testing.assert_array_equal(fitted.step, COUNTED.step)
    np.testing.assert_array_equal(fitted.h, HIDDEN)
    back = give_back(COUNTED, form)
    assert jax.tree.structure(back) == jax.tree.structure(form)
    np.testing.assert_array_equal(jax.tree.leaves(back)[-1], COUNTED.step)


def test_a_carry_without_a_count_begins_a_sequence(rng):
    cell = jn.bn_lstm(H, max_steps=3)
    params, stats = cases.random_cell_params(cell, rng), cases.random_stats(cell.initial_stats(), rng)
    xs = cases.random_inputs(rng, 2, (B,))
    ours = jn.unroll(cell, params, xs, stats=stats, carry=COUNTED._replace(step=jnp.zeros(B, jnp.int32)))
    given = jn.unroll(cell, params, xs, stats=stats, carry=(C, HIDDEN))
    np.testing.assert_array_equal(given.outputs, ours.outputs)
    np.testing.assert_array_equal(given.carry.step, [2, 2])
    assert give_back(given.carry, (C, HIDDEN)) is given.carry  # a tuple has no room for the count


def test_where_the_carry_goes_back_it_needs_the_count():
    message = (
        r"f: carry must say how many steps each example has run.*got a tuple with 2 entries.*CountedCarry\(carry, "
    )
    with pytest.raises(TypeError, match=message):
        check_carry("f", "carry", (C, HIDDEN), COUNTED, given_back=True)
    check_carry("f", "carry", jn.CountedCarry((C, HIDDEN), COUNTED.step), COUNTED, given_back=True)


LSTM_ORDER = "LSTMCarry(c, h), or be a dict with these names, or a tuple or list in this order: (c, h)"
REFUSED = {
    "unknown names": ("lstm", Other(C, HIDDEN), TypeError, [LSTM_ORDER, "got Other(first, second)"]),
    "another cell": ("lstm", OWN["gru"], TypeError, [LSTM_ORDER, "got GRUCarry(h)"]),
    "an array": ("lstm", jnp.stack([C, HIDDEN]), TypeError, [LSTM_ORDER, "got an array with shape (2, 2, 4)"]),
    "three": ("lstm", (C, C, C), TypeError, [LSTM_ORDER, "got a tuple with 3 entries"]),
    "a name twice": ("lstm", {"h": C, "hidden": C}, TypeError, ["got a dict with 'h', 'hidden'"]),
    "two names for one": ("gru", {"h": C, "hidden": C}, TypeError, ["got a dict with 'h', 'hidden'"]),
    "two entries": ("gru", (C, C), TypeError, ["GRUCarry(h)", "(h,), or the array itself", "got a tuple with 2"]),
    "nothing": ("gru", (), TypeError, ["got a tuple with 0 entries"]),
    "None inside": ("gru", [None], TypeError, ["got a list with 1 entry"]),
    "a count that nobody wants": ("lstm", COUNTED, TypeError, ["got CountedCarry(carry, step)"]),
    "order": ("lstm", (C, C[:, :3]), ValueError, ["carry[1] must have shape", "A tuple holds", "in the order (c, h)"]),
    "order in a list": ("lstm", [C[:1], C], ValueError, ["carry[0] must have", "A list holds", "in the order (c, h)"]),
    "size of an array": ("gru", C[:1], ValueError, ["carry must have shape (*B, H) = (2, 4), got (1, 4)"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_told_is_refused_with_our_order(name):
    cell, form, kind, texts = REFUSED[name]
    with pytest.raises(kind) as caught:
        fit_carry("unroll", "carry", form, OWN[cell])
    assert re.search(".*".join(map(re.escape, texts)), str(caught.value)), str(caught.value)


def test_sizes_by_name_say_nothing_of_an_order():
    with pytest.raises(ValueError, match=r"carry\['c'\] must have .*batch of another size\?$"):
        fit_carry("unroll", "carry", {"c": C[:1], "h": HIDDEN}, OWN["lstm"])


@pytest.mark.parametrize("template", [C, (C, {"a": HIDDEN}), {"a": C}], ids=["array", "tree", "dict"])
def test_carries_without_fields_keep_their_structure(template):
    """A cell of the user may carry any tree."""
    fitted = fit_carry("unroll", "carry", template, template)
    assert jax.tree.structure(fitted) == jax.tree.structure(template)
    with pytest.raises(TypeError, match=r"carry must have the structure .*PyTreeDef.* got PyTreeDef"):
        fit_carry("unroll", "carry", [template], template)
