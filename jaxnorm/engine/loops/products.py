"""Matrix products that the forward pass saves and the backward pass finds, in the compute dtype."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._base.typing import Array
from jaxnorm.cells.base import Products


def round_products(products: Products, dtype: Any) -> Products:
    """Rounds products to a dtype, but keeps the dtype they have; their derivative is the one without rounding.

    None for ``dtype``, or one that is as wide, leaves them alone.
    """
    return jax.tree.map(lambda leaf: _replace(leaf, _rounded(leaf, dtype)) if narrows(leaf, dtype) else leaf, products)


def narrow(products: Products, dtype: Any) -> Products:
    """Casts rounded products to the narrower dtype, which loses nothing."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if narrows(leaf, dtype) else leaf, products)


def find_products(products: Products, saved: Products) -> Products:
    """Returns the saved values of products, with the derivative of the products.

    Nothing needs the values of the products then, so the program that computes them is dropped.
    """
    return jax.tree.map(lambda leaf, found: _replace(leaf, found.astype(leaf.dtype)), products, saved)


def narrows(leaf: Any, dtype: Any) -> bool:
    """Whether a cast to the dtype would round a product."""
    if dtype is None or not jnp.issubdtype(leaf.dtype, jnp.floating):
        return False
    bits, bits_of_product = (jnp.finfo(each).bits for each in (dtype, leaf.dtype))  # type: ignore[no-untyped-call]
    return bool(bits < bits_of_product)


def _rounded(leaf: Array, dtype: Any) -> Array:
    # Casts there and back do not round for sure: XLA drops such a pair, since it may compute more precisely.
    kind = jnp.finfo(dtype)  # type: ignore[no-untyped-call]
    return lax.reduce_precision(leaf, exponent_bits=kind.nexp, mantissa_bits=kind.nmant)


@jax.custom_jvp
def _replace(product: Array, value: Array) -> Array:
    """The value of one array, with the derivative of another."""
    return value


@_replace.defjvp
def _replace_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    return primals[1], tangents[0]
