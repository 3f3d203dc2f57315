"""Moments of an activation function under Gaussian inputs: mean, standard deviation and root mean square slope."""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array

__all__ = ["ActivationMoments", "activation_moments"]


ActivationName: TypeAlias = Literal[
    "relu", "tanh", "sigmoid", "softplus", "elu", "selu", "celu", "gelu", "silu", "leaky_relu", "relu6", "hard_tanh"
]
Activation: TypeAlias = ActivationName | Callable[[Array], Array]
"""A name in ``jax.nn`` or any function. With a name, a spec can be compared and pickled by value."""

Numbers: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

_REACH = 12.0
_NODES = 20


class ActivationMoments(NamedTuple):
    r"""Moments of f(z), where z is Gaussian with mean zero, as Python numbers."""

    mean: float
    """E[f(z)]."""
    std: float
    """The root of Var[f(z)]."""
    slope: float
    """The root mean square of f'(z)."""

    @property
    def jacobian(self) -> float:
        """The root mean square singular value of the normalized activation: slope / std."""
        return self.slope / self.std


def activation_moments(activation: Activation, *, std: float = 1.0) -> ActivationMoments:
    r"""Computes mean, standard deviation and root mean square slope of an activation under a Gaussian.

    .. math:: E[f(z)], \qquad \sqrt{\mathrm{Var}[f(z)]}, \qquad \sqrt{E[f'(z)^2]}, \qquad z \sim N(0, \text{std}^2)

    For the rectified linear unit they have a closed form: :math:`\text{std} / \sqrt{2 \pi}`,
    :math:`\text{std} \sqrt{\tfrac12 (1 - \tfrac1\pi)}` and :math:`\sqrt{1/2}`. For any other function we use Gaussian
    quadrature in float64, in pieces that end at whole numbers. Most activations have their kinks there, so we integrate
    them as exactly as smooth functions (a single Gauss-Hermite rule has an error of one over its number of nodes).

    Args:
      activation: a name from ``jax.nn`` such as ``"tanh"``, or an elementwise function of one array.
      std: standard deviation of z.

    Returns:
      ActivationMoments(mean, std, slope), as Python numbers. We compute them once per activation, outside of any trace.

    Raises:
      ValueError: an unknown name, or ``std`` is not positive.

    Example:
      >>> import jaxnorm
      >>> relu = jaxnorm.zoo.activation_moments("relu")
      >>> round(relu.mean, 6), round(relu.std, 6), round(relu.jacobian, 4)
      (0.398942, 0.583819, 1.2112)

    Notes:
      We ignore values of z beyond 12; their probability is 1e-33.

    Reference:
      D. Arpit, Y. Zhou, B. Kota, V. Govindaraju, "Normalization Propagation", 2016, arXiv:1603.01431.
    """
    check_activation("activation_moments", activation)
    validate.in_range("activation_moments", "std", std, 0.0, float("inf"))
    if std in (0.0, float("inf")):
        raise ValueError(f"activation_moments: std must be above 0 and finite, got {std!r}.")
    if activation == "relu":
        return ActivationMoments(std / math.sqrt(2 * math.pi), std * math.sqrt(0.5 * (1 - 1 / math.pi)), math.sqrt(0.5))
    return _by_quadrature(activation, float(std))


def check_activation(caller: str, activation: Any) -> None:
    """Raises ValueError unless an activation is a function or a known name."""
    if not callable(activation):
        validate.choice(caller, "activation", activation, get_args(ActivationName))


def activation_function(activation: Activation) -> Callable[[Array], Array]:
    """Returns the function with this name."""
    if callable(activation):
        return activation
    function: Callable[[Array], Array] = getattr(jax.nn, activation)
    return function


@functools.cache
def _by_quadrature(activation: Activation, std: float) -> ActivationMoments:
    nodes, weights = _rule(std)
    function = activation_function(activation)
    # Evaluate immediately and in float64, even if the caller is traced or computes in float32.
    with jax.enable_x64(True), jax.ensure_compile_time_eval():
        x = jnp.asarray(std * nodes, jnp.float64)
        values, slopes = (np.asarray(y, np.float64) for y in jax.jvp(function, (x,), (jnp.ones_like(x),)))
    mean = float(weights @ values)
    variance = float(weights @ np.square(values - mean))
    return ActivationMoments(mean, math.sqrt(variance), math.sqrt(float(weights @ np.square(slopes))))


def _rule(std: float) -> tuple[Numbers, Numbers]:
    """Quadrature nodes and weights for the standard Gaussian; pieces also end where std * z is a whole number."""
    # Inputs at the ends of pieces: whole numbers up to 8, then powers of two.
    far = 2.0 ** np.arange(3, max(4, math.ceil(math.log2(_REACH * std))))
    inputs = np.concatenate([np.arange(9.0), far]) / std
    ends = np.concatenate([np.linspace(0.0, _REACH, 25), inputs[inputs < _REACH]])
    edges = np.unique(np.concatenate([-ends, ends]))
    at, weight = np.polynomial.legendre.leggauss(_NODES)
    half, center = np.diff(edges)[:, None] / 2, (edges[1:] + edges[:-1])[:, None] / 2
    nodes = (center + half * at[None]).ravel()
    density = np.exp(-np.square(nodes) / 2) / math.sqrt(2 * math.pi)
    return nodes, (half * weight[None]).ravel() * density
