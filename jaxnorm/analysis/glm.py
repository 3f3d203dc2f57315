"""A generalized linear model, ordinary or normalized: parameters, covariance of the outputs, summed inputs."""

from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Float

Family: TypeAlias = Literal["gaussian", "bernoulli", "categorical"]
Kind: TypeAlias = Literal["weight", "batch", "layer"]
FAMILIES = ("gaussian", "bernoulli", "categorical")
KINDS = ("weight", "batch", "layer")


class GLMParams(NamedTuple):
    """The parameters of a generalized linear model; ``gain`` is None without normalization."""

    kernel: Float[Array, "I H"]
    bias: Float[Array, " H"]
    gain: Float[Array, " H"] | None = None


class SummedInputs(NamedTuple):
    """The summed inputs of a layer."""

    hat: Array
    """Normalized, (N, H)."""
    inverse: Array
    """1 / s, (N or 1, H or 1); zero where s is."""


def output_covariance(
    z: Float[Array, "N H"], *, family: Family = "gaussian", dispersion: float = 1.0
) -> Float[Array, "N H H"]:
    r"""Computes the covariance of the outputs of a model for each case.

    .. math:: \mathrm{Cov}[y | x] = \phi I, \qquad \mathrm{diag}(p (1 - p)), \qquad \mathrm{diag}(p) - p p^T

    for Gaussian outputs of variance :math:`\phi`, for H independent Bernoulli outputs with p the logistic function of
    z (logistic regression), and for one categorical output with p the softmax of z.

    Args:
      z: natural parameters (logits) of N cases.
      family: the distribution of the outputs.
      dispersion: :math:`\phi`, the variance of Gaussian outputs; 1 for the other families.

    Returns:
      A covariance matrix for each case.

    Raises:
      ValueError: an unknown family, a dispersion that is not positive, or one other than 1 for a family without it.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnorm import analysis
      >>> analysis.output_covariance(jnp.array([[0.0, 0.0]]), family="bernoulli").tolist()
      [[[0.25, 0.0], [0.0, 0.25]]]
    """
    check_family("output_covariance", family, dispersion)
    eye = jnp.eye(z.shape[-1], dtype=z.dtype)[None]
    if family == "gaussian":
        return jnp.broadcast_to(eye * dispersion, (*z.shape, z.shape[-1]))
    if family == "bernoulli":
        return eye * (jax.nn.sigmoid(z) * jax.nn.sigmoid(-z))[:, None]
    p = jax.nn.softmax(z)
    return eye * p[:, None] - p[:, :, None] * p[:, None]


def effective_inputs(kernel: Float[Array, "I H"], xs: Float[Array, "N I"], *, norm: Kind) -> Float[Array, "N H I"]:
    r"""Computes the effective inputs in the derivative of a normalized model with respect to its weights: chi.

    .. math::
       \chi_i = x - \frac{\partial \mu_i}{\partial w_i} - \frac{a_i - \mu_i}{s_i} \frac{\partial s_i}{\partial w_i}
       = \frac{s_i}{g_i} \frac{\partial z_i}{\partial w_i}

    In closed form, with :math:`\hat a_i = (a_i - \mu_i) / s_i` and C the covariance of x:

    .. math::
       \text{weight: } \Bigl(I - \frac{w_i w_i^T}{|w_i|^2}\Bigr) x, \qquad
       \text{batch: } x - E[x] - \hat a_i \frac{C w_i}{s_i}, \qquad
       \text{layer: } x \Bigl(1 - \frac1H - \frac{\hat a_i^2}{H}\Bigr)

    Args:
      kernel: W, with a column for each output.
      xs: N cases; they are the population behind the statistics of batch normalization.
      norm: weight, batch or layer normalization, without epsilon.

    Returns:
      One vector for each case and output. An output without spread (s = 0) counts as normalized to zero.

    Raises:
      ValueError: shapes do not fit, or ``norm`` is unknown.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnorm import analysis
      >>> kernel = jnp.array([[2.0], [0.0]])  # weight normalization takes away what lies along the weights
      >>> analysis.effective_inputs(kernel, jnp.array([[5.0, 7.0]]), norm="weight").tolist()
      [[[0.0, 7.0]]]

    Reference:
      J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer Normalization", 2016, arXiv:1607.06450, eq. 13 and supplement.
    """
    check_shapes("effective_inputs", GLMParams(kernel, jnp.zeros_like(kernel[0])), xs, gain=False)
    hat, inverse = summed_inputs("effective_inputs", kernel, xs, norm)
    along, weights = xs[:, None], kernel.T[None]
    if norm == "weight":
        return along - hat[..., None] * weights * inverse[..., None]
    if norm == "batch":
        centered = xs - jnp.mean(xs, axis=0, keepdims=True)
        covariance = centered.T @ centered / len(xs)
        return centered[:, None] - (hat * inverse)[..., None] * (covariance @ kernel).T[None]
    outputs = kernel.shape[1]
    return along * (1.0 - 1.0 / outputs - jnp.square(hat) / outputs)[..., None]


def summed_inputs(caller: str, kernel: Array, xs: Array, norm: str) -> SummedInputs:
    """Computes the normalized summed inputs, and the reciprocal of their divisor."""
    validate.choice(caller, "norm", norm, KINDS)
    a = xs @ kernel
    if norm == "weight":
        square = jnp.sum(jnp.square(kernel), axis=0, keepdims=True)
    else:
        axis = 0 if norm == "batch" else 1
        a = a - jnp.mean(a, axis=axis, keepdims=True)
        square = jnp.mean(jnp.square(a), axis=axis, keepdims=True)
    one = jnp.ones_like(square)
    inverse = jnp.where(square > 0, jax.lax.rsqrt(jnp.where(square > 0, square, one)), 0.0 * one)
    return SummedInputs(a * inverse, inverse)


def check_family(caller: str, family: str, dispersion: float) -> None:
    """Raises ValueError unless the family is known and the dispersion fits it."""
    validate.choice(caller, "family", family, FAMILIES)
    if not dispersion > 0.0 or (family != "gaussian" and dispersion != 1.0):
        raise ValueError(
            f"{caller}: dispersion must be a number above 0, and 1 for the {family} family, got {dispersion!r}. "
            "Only Gaussian outputs have one of their own."
        )


def check_shapes(caller: str, params: GLMParams, xs: Array, *, gain: bool) -> Array:
    """Checks a model against its data; returns the gains as a row (ones where there are none)."""
    validate.floating(caller, "xs", xs)
    validate.floating(caller, "params.kernel", params.kernel)
    if xs.ndim != 2 or params.kernel.ndim != 2 or xs.shape[1] != params.kernel.shape[0]:
        raise ValueError(
            f"{caller}: xs and params.kernel must have shapes (N, I) and (I, H), got {xs.shape} and "
            f"{params.kernel.shape}. Reshape batches to one axis of cases."
        )
    outputs = params.kernel.shape[1:]
    validate.shape(caller, "params.bias", params.bias.shape, outputs, "(H,)", "One bias for each output.")
    if gain != (params.gain is not None):
        needed, given = ("a gain", "None") if gain else ("no gain", "one")
        raise ValueError(f"{caller}: params must have {needed} here, got {given}. Write GLMParams(kernel, bias, gain).")
    if params.gain is None:
        return jnp.ones_like(params.bias)[None]
    validate.shape(caller, "params.gain", params.gain.shape, outputs, "(H,)", "One gain for each output.")
    return params.gain[None]
