"""A clear error for forward-mode differentiation of functions that support only reverse mode.

For a ``custom_vjp``, JAX itself raises a generic error when it compiles the whole program, far from the function that
knows more. So we first pass the arguments of such a function through an identity. The derivative of this identity is a
primitive that supports transposition, which is all that reverse mode needs, and that raises if it is evaluated.
"""

from functools import cache, partial
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
from jax.interpreters import ad, batching, mlir

from jaxnorm._base.typing import Array, PyTree


def for_reverse_mode(message: str, tree: PyTree) -> PyTree:
    """Returns the tree unchanged; its forward-mode derivative raises TypeError with this message."""

    def leaf(x: Array) -> Array:
        return _same(message, x) if jnp.issubdtype(x.dtype, jnp.inexact) else x

    return jax.tree.map(leaf, tree)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _same(message: str, x: Array) -> Array:
    return x


@_same.defjvp
def _same_jvp(message: str, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # We return the argument itself, not _same of it: forward-over-reverse mode differentiates results of this value.
    return primals[0], _to_be_transposed().bind(tangents[0], primals[0], message=message)


@cache
def _to_be_transposed() -> Any:
    """A primitive, the identity of a tangent, that raises if evaluated; the second argument is the primal point."""
    from jax.extend.core import Primitive  # a late import: it takes a tenth of the time of importing jaxnorm

    def refuse(*arguments: Any, message: str) -> NoReturn:
        raise TypeError(message)

    def batch(arguments: tuple[Array, Array], axes: tuple[Any, Any], *, message: str) -> tuple[Array, Any]:
        if axes[1] is None:  # several tangents for one point, as in jax.jacfwd; reverse mode has one tangent per point
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
