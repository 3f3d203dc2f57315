"""A word for those who ask forward mode of what has a derivative for reverse mode only.

JAX itself raises for a ``custom_vjp`` when the whole program is compiled, far from the function that could say more,
and with a text of its own. So the arguments of such a function pass through an identity first. Its derivative is an
operation that can be transposed, which is all that reverse mode does with it, and that raises where it is to be
carried out.
"""

from functools import cache, partial
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
from jax.interpreters import ad, batching, mlir

from jaxnorm._typing import Array, PyTree


def for_reverse_mode(message: str, tree: PyTree) -> PyTree:
    """The same tree; a derivative of it in forward mode raises TypeError with the message."""

    def leaf(x: Array) -> Array:
        return _same(message, x) if jnp.issubdtype(x.dtype, jnp.inexact) else x

    return jax.tree.map(leaf, tree)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _same(message: str, x: Array) -> Array:
    return x


@_same.defjvp
def _same_jvp(message: str, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # Not _same of the argument: forward mode over reverse mode differentiates what is computed with it.
    return primals[0], _to_be_transposed().bind(tangents[0], primals[0], message=message)


@cache
def _to_be_transposed() -> Any:
    """The identity of its first argument, a tangent, that is not carried out; the second one is what it belongs to."""
    from jax.extend.core import Primitive  # takes a tenth of the time that importing jaxnorm takes

    def refuse(*arguments: Any, message: str) -> NoReturn:
        raise TypeError(message)

    def batch(arguments: tuple[Array, Array], axes: tuple[Any, Any], *, message: str) -> tuple[Array, Any]:
        if axes[1] is None:  # several tangents for one point, as in jax.jacfwd; reverse mode has one for each
            refuse(message=message)
        return identity.bind(*arguments, message=message), axes[0]

    def transpose(cotangent: Any, *arguments: Any, message: str) -> tuple[Any, None]:
        return cotangent, None

    identity: Any = Primitive("to_be_transposed")
    identity.def_impl(refuse)
    identity.def_abstract_eval(lambda tangent, point, *, message: tangent)
    ad.primitive_transposes[identity] = transpose
    batching.primitive_batchers[identity] = batch
    mlir.register_lowering(identity, refuse)
    return identity
