"""Takes carries in the forms that users have, and gives them back in the same form.

An LSTM has the carry ``LSTMCarry(c, h)``. Flax has the tuple ``(c, h)``, Haiku ``LSTMState(hidden, cell)``, a
checkpoint a dict; a GRU elsewhere carries an array. All of this is structure: it costs nothing in a compiled program.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnorm._base import objects, validate
from jaxnorm.cells import carries
from jaxnorm.cells.base import Cell, CountedCarry
from jaxnorm.cells.hooks import hooks

ALIASES = {"hidden": "h", "cell": "c"}
"""The names of other libraries, as in Haiku's ``LSTMState(hidden, cell)``."""


@functools.cache
def _template(cell: Any, batch_shape: tuple[int, ...]) -> Any:
    key = jax.eval_shape(jax.random.key, 0)
    return jax.eval_shape(lambda key: cell.initial_carry(batch_shape, key=key), key)


def carry_template(cell: Any, batch_shape: tuple[int, ...], params: Any = None) -> Any:
    """The carry of a cell, with shapes and dtypes as leaves; that of a user's step may depend on the weights."""
    if params is None or hooks(cell).fixes_params:
        return _template(cell, batch_shape)
    return jax.eval_shape(lambda: cell.initial_carry(batch_shape, params=params, key=jax.random.key(0)))


def check_carry(caller: str, name: str, carry: Any, template: Any, *, given_back: bool = False) -> Any:
    """Arranges a carry that the caller passed as the cell does, and checks its shapes.

    Args:
      caller: the name at the head of messages.
      name: the argument, for messages.
      carry: a carry in any form that :func:`arrange` takes. One without a count begins a sequence: its examples have
        run no step yet.
      template: the initial carry of the cell, or its shapes and dtypes.
      given_back: whether the carry goes back to the caller in the same form, step by step. It then needs the count.
    """
    arranged = arrange(carry, template)
    if isinstance(template, CountedCarry) and not isinstance(arranged, CountedCarry):
        if given_back and _structure(arranged) == _structure(template.carry):
            raise TypeError(
                f"{caller}: {name} must say how many steps each example has run, since this cell has statistics for "
                f"each step, got {_got(carry)}. Start with cell.initial_carry(batch_shape), or write "
                f"CountedCarry({name}, step) with a number for each example, zero at its start."
            )
        arranged = CountedCarry(arranged, jnp.zeros(template.step.shape, jnp.int32))
    if _structure(arranged) != _structure(template):
        got = _got(carry) if hasattr(_state(template), "_fields") else _structure(carry)
        raise TypeError(
            f"{caller}: {name} must have the structure that cell.initial_carry(batch_shape) gives, "
            f"{_wanted(template)}; got {got}."
        )
    hint = f"Does it come from a batch of another size?{_order(carry, template)}"
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(carry)]
    leaves = zip(jax.tree.leaves(arranged), jax.tree.leaves(template), strict=True)
    for place, (entry, like) in zip(_places(carry, template), leaves, strict=False):  # a count that we added is right
        path = name + jax.tree_util.keystr(paths[place])
        of_layers = _of_layers(path, np.shape(entry), like.shape)
        own = of_layers + _order(carry, template) if of_layers else hint
        validate.shape(caller, path, np.shape(entry), like.shape, "(*B, H)", own)
    return arranged


def _of_layers(path: str, got: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """Says what to do with a state that has a leading axis for the layers and directions, as PyTorch's."""
    if len(got) != len(wanted) + 1 or got[1:] != wanted:
        return ""
    which = "" if got[0] == 1 else ", with the number of the layer in place of 0"
    return f"The first axis is that of layers and directions, as in PyTorch: pass {path}[0]{which}."


def check_step_carry(
    caller: str, name: str, carry: Any, cell: Cell, batch_shape: tuple[int, ...], params: Any = None
) -> None:
    """Checks the carry of a single step, which goes back to the caller in the same form."""
    check_carry(caller, name, carry, carry_template(cell, batch_shape, params), given_back=True)


def fit_carry(caller: str, name: str, carry: Any, template: Any) -> Any:
    """Checks a carry as :func:`check_carry` does, and casts it to the dtypes of the cell."""
    arranged = check_carry(caller, name, carry, template)
    return jax.tree.map(lambda entry, like: carries.cast(jnp.asarray(entry), like.dtype), arranged, template)


def arrange(carry: Any, template: Any) -> Any:
    """Arranges the entries of a carry in the structure of ``template``; what does not fit comes back as it is.

    A NamedTuple and a dict go by their names (also those of :data:`ALIASES`), a plain tuple or list by the order of the
    fields, or of the tuple or list that a step of the user's has; any other value is the entry of a carry that has only
    one. A carry without a count stays so.
    """
    if _structure(carry) == _structure(template):
        return carry
    if isinstance(template, CountedCarry):
        named = _by_name(carry, CountedCarry._fields)
        if named is None:
            return arrange(carry, template.carry)
        return CountedCarry(arrange(named[0], template.carry), named[1])
    fields = getattr(template, "_fields", None)
    entries: Any = None
    if _is_plain(template):
        fits = _is_plain(carry) and len(carry) == len(template)
        return type(template)(map(arrange, carry, template)) if fits else carry
    if fields is None:
        return carry
    if _is_named(carry):
        entries = _by_name(carry, fields)
    elif isinstance(carry, list | tuple):
        entries = carry
    elif jax.tree_util.all_leaves([carry]):
        entries = [carry]
    if entries is None or len(entries) != len(fields):
        return carry
    return type(template)(*map(arrange, entries, template))


def flax_form(cell: Cell, carry: Any) -> Any:
    """Returns a carry of the cell as cells of Flax have theirs: a plain tuple, or the array itself if there is one.

    A count of steps has no place there, and the carry of a user's step stays what the user made.
    """
    if isinstance(carry, CountedCarry) or not hasattr(carry, "_fields") or not hooks(cell).fixes_params:
        return carry
    return carry[0] if len(carry) == 1 else tuple(carry)


def give_back(carry: Any, given: Any, *, cast: bool = False) -> Any:
    """Returns a carry of the cell in the form of the one that the caller passed, with ``cast`` in its dtypes too.

    Where ``given`` is None, or has no room for the count, the carry keeps the form of the cell.
    """
    leaves, structure = jax.tree.flatten(given)
    entries = jax.tree.leaves(carry)
    if given is None or len(leaves) != len(entries):
        return carry
    for place, entry in zip(_places(given, carry), jax.tree.leaves(carry), strict=True):
        entries[place] = carries.cast(entry, _dtype(leaves[place])) if cast else entry
    return jax.tree.unflatten(structure, entries)


def _dtype(leaf: Any) -> Any:
    """Returns the dtype that a leaf has as an array of JAX; that of keys has no other."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return leaf.dtype if is_key else jax.dtypes.canonicalize_dtype(leaf.dtype)


def _places(given: Any, template: Any) -> list[int]:
    """Returns, for each leaf of an arranged carry, the number of the leaf that it was when it was given."""
    leaves, structure = jax.tree.flatten(given)
    places: list[int] = jax.tree.leaves(arrange(jax.tree.unflatten(structure, range(len(leaves))), template))
    return places


def _structure(tree: Any) -> Any:
    return jax.tree.structure(tree)


def _is_plain(tree: Any) -> bool:
    return isinstance(tree, list | tuple) and not hasattr(type(tree), "_fields")


def _is_named(carry: Any) -> bool:
    return isinstance(carry, Mapping) or hasattr(type(carry), "_fields")


def _by_name(carry: Any, fields: tuple[str, ...]) -> list[Any] | None:
    """Returns the entries with the names of the fields, in their order; None if the names are others."""
    if not _is_named(carry):
        return None
    given = dict(carry) if isinstance(carry, Mapping) else dict(zip(carry._fields, carry, strict=True))
    entries = {name if name in fields else ALIASES.get(name, name): entry for name, entry in given.items()}
    fits = entries.keys() == set(fields) and len(given) == len(fields)
    return [entries[name] for name in fields] if fits else None


def _state(template: Any) -> Any:
    return template.carry if isinstance(template, CountedCarry) else template


def _wanted(template: Any) -> str:
    """Describes the carry of the cell, and the other forms that it may have."""
    state = _state(template)
    fields = getattr(state, "_fields", None)
    if fields is None:
        return str(_structure(template))
    entries = ", ".join(fields)
    own = f"{type(state).__name__}({entries})"
    forms = f"a dict with these names, or a tuple or list in this order: ({entries})"
    if len(fields) == 1:
        forms = f"a dict, tuple or list with this entry, ({entries},), or the array itself"
    counted = f"CountedCarry({own}, step)" if isinstance(template, CountedCarry) else own
    return f"{counted}, or be {forms}"


def _got(carry: Any) -> str:
    fields = getattr(type(carry), "_fields", None)
    return objects.describe(carry) if fields is None else f"{type(carry).__name__}({', '.join(fields)})"


def _order(carry: Any, template: Any) -> str:
    """Says the order of the entries to those who passed a plain tuple or list of several."""
    fields = getattr(_state(template), "_fields", ())
    carry = carry.carry if isinstance(carry, CountedCarry) else carry
    if _is_named(carry) or not isinstance(carry, list | tuple) or len(fields) < 2:
        return ""
    other = " That of PyTorch and Keras is (h, c): pass {'h': h, 'c': c}." if {*fields} == {"c", "h"} else ""
    return f" A {type(carry).__name__} holds the entries in the order ({', '.join(fields)}).{other}"
