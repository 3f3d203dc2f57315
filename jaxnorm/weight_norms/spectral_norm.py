"""Spectral normalization: gives a kernel the largest singular value one, by power iteration."""

import operator
from dataclasses import field
from typing import final

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm._base import norm_keywords, validate
from jaxnorm._base.keywords import answers_keywords
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Axis, Float
from jaxnorm.norms.core.moments import statistics_dtype
from jaxnorm.norms.core.quotient import quotient
from jaxnorm.norms.core.spec import DEFAULT, keywords_of
from jaxnorm.weight_norms import base
from jaxnorm.weight_norms.base import KernelParams, KernelSpec, Key, State
from jaxnorm.weight_norms.direction import unit


class SpectralState(NamedTuple):
    """Estimates of the first singular vectors, in at least float32: u over the output units, v over the inputs."""

    u: Float[Array, " units"]
    v: Float[Array, " inputs"]


def power_iteration(
    kernel: Float[Array, "..."],
    state: SpectralState,
    *,
    iterations: int = 1,
    axis: Axis | None = None,
    epsilon: float = 1e-12,
) -> SpectralState:
    r"""Improves estimates of the first singular vectors of a kernel.

    .. math::
       v \leftarrow \ell(u W), \qquad u \leftarrow \ell(v W^\top), \qquad
       \ell(t) = \frac{t}{\lVert t \rVert_2 + \epsilon}

    where W is the kernel as a matrix (output units, inputs).

    Args:
      kernel: of any shape.
      state: the estimates.
      iterations: how many times to update both, in this order; 0 leaves them unchanged.
      axis: the axes of a unit's inputs; see :func:`spectral_norm`.
      epsilon: added to the length.

    Returns:
      The new estimates, without gradient. An estimate that would become zero (for a zero kernel) is not changed.

    Raises:
      TypeError: ``kernel`` is not floating.
      ValueError: an axis is out of range, named twice, or not named with three axes; iterations are negative, or the
        state does not fit.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> state = jaxnorm.weight_norms.SpectralState(jnp.array([0.6, 0.8]), jnp.array([1.0, 0.0]))
      >>> jaxnorm.weight_norms.power_iteration(jnp.diag(jnp.array([4.0, 1.0])), state, iterations=5).u.round(3).tolist()
      [1.0, 0.0]
    """
    _check_iterations("power_iteration", iterations)
    matrix = lax.stop_gradient(_matrix("power_iteration", kernel, axis))
    u, v = (lax.stop_gradient(vector.astype(matrix.dtype)) for vector in _checked("power_iteration", state, matrix))
    for _ in range(iterations):
        v = _kept(unit(_product(u, matrix), (0,), epsilon), v)
        u = _kept(unit(_product(matrix, v), (0,), epsilon), u)
    return SpectralState(u, v)


@answers_keywords(norm_keywords.KERNELS)
def spectral_norm(
    kernel: Float[Array, "..."],
    state: SpectralState,
    scale: Float[Array, ""] | None = None,
    *,
    iterations: int = 1,
    axis: Axis | None = None,
    epsilon: float = 1e-12,
) -> tuple[Float[Array, "..."], SpectralState]:
    r"""Divides a kernel by its largest singular value, as estimated by power iteration.

    .. math:: \bar W = \text{scale} \cdot \frac{W}{\sigma}, \qquad \sigma = u W v^\top

    where W is the kernel as a matrix (output units, inputs), and u, v come from :func:`power_iteration`. They are
    constants in differentiation; the gradient flows through W in the numerator and in sigma.

    Args:
      kernel: of any shape.
      state: the estimates of the singular vectors, as an earlier call returned them.
      scale: one factor; None means one.
      iterations: how many power iterations to make first. The paper has 1 in training; use 0 for inference.
      axis: the axes of a unit's inputs. None means all but the last, as in (I, O) and (kh, kw, I, O). A kernel with
        three axes needs an explicit axis: 0 for gates (I, G, H), which form a single matrix, (0, 1) for a
        one-dimensional convolution (k, I, O). To normalize each gate separately, use ``jax.vmap``.
      epsilon: added to lengths in the power iteration.

    Returns:
      The kernel, with unchanged shape and dtype, and the state it used; the arithmetic is done in at least float32.

    Raises:
      TypeError: ``kernel`` or ``scale`` is not floating.
      ValueError: an axis is out of range, named twice, or not named with three axes; iterations are negative, or state
        or scale does not fit.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> kernel = jnp.diag(jnp.array([4.0, 1.0]))
      >>> state = jaxnorm.weight_norms.SpectralState(jnp.array([0.6, 0.8]), jnp.array([1.0, 0.0]))
      >>> kernel, state = jaxnorm.spectral_norm(kernel, state, iterations=5)
      >>> kernel.round(3).tolist()
      [[1.0, 0.0], [0.0, 0.25]]

    Notes:
      A zero kernel stays zero, with gradient zero. If the products with the kernel are not much longer than epsilon
      (weights below about 1e-6 with epsilon 1e-12), the equation makes the estimates shorter than one, and sigma is too
      small and finally zero. With ``epsilon=0`` they have length one for kernels of every size. The authors' code
      improves the estimates at every call, in evaluation too; here inference does not change them, as in PyTorch. The
      compiled program unrolls the iterations.

    Reference:
      T. Miyato, T. Kataoka, M. Koyama, Y. Yoshida, "Spectral Normalization for Generative Adversarial Networks", 2018,
      arXiv:1802.05957, eqs. 6 to 8 and Algorithm 1.
    """
    state = power_iteration(kernel, state, iterations=iterations, axis=axis, epsilon=epsilon)
    matrix = _matrix("spectral_norm", kernel, axis)
    sigma = jnp.sum(state.u * _product(matrix, state.v))
    made = quotient(kernel.astype(sigma.dtype), sigma)
    if scale is not None:
        validate.floating("spectral_norm", "scale", scale)
        validate.shape("spectral_norm", "scale", scale.shape, (), "()", "One number serves the whole kernel.")
        made = made * scale.astype(made.dtype)
    return made.astype(kernel.dtype), state


@final
class SpectralNorm(KernelSpec):
    """The spec of :func:`spectral_norm`. ``advance`` makes the power iterations; a call makes none.

    Attributes:
      iterations: power iterations per training step.
      use_scale: whether to train a factor that starts as the largest singular value of the given kernel.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> spec = jaxnorm.SpectralNorm(iterations=9)
      >>> params, state = spec.init(jnp.diag(jnp.array([4.0, 1.0])), jax.random.key(0))
      >>> state = spec.advance(params, state)  # in training
      >>> spec(params, state).round(3).tolist()
      [[1.0, 0.0], [0.0, 0.25]]
    """

    function = staticmethod(spectral_norm)
    axis: Axis | None = field(default=DEFAULT, kw_only=False)
    iterations: int = DEFAULT
    epsilon: float = DEFAULT
    use_scale: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        validate.positive_int("SpectralNorm", "iterations", self.iterations)

    def init(self, kernel: Float[Array, "..."], key: Key | None = None) -> tuple[KernelParams, State]:
        """Returns the kernel, with a scale if it is trained, and a random u with the matching v.

        Raises:
          ValueError: ``key`` is None.
        """
        matrix = _matrix("SpectralNorm.init", kernel, self.axis)
        if key is None:
            raise ValueError(
                "SpectralNorm.init: the power iteration begins with a random vector, but key is None. "
                "Pass key=jax.random.key(...)."
            )
        validate.key("SpectralNorm.init", "key", key)
        u = unit(jax.random.normal(key, (matrix.shape[0],), matrix.dtype), (0,))
        v = unit(_product(u, matrix), (0,), self.epsilon)
        scale = jnp.linalg.svd(matrix, compute_uv=False)[0].astype(kernel.dtype) if self.use_scale else None
        return KernelParams(kernel, scale), SpectralState(u, v)

    def advance(self, params: KernelParams, state: State) -> State:
        """Applies :func:`power_iteration`."""
        kernel = base.kernel_params(params, "SpectralNorm.advance").kernel
        estimates: SpectralState = base.state_of(state, SpectralState, "SpectralNorm.advance")
        return power_iteration(kernel, estimates, **keywords_of(self, power_iteration))

    def __call__(self, params: KernelParams, state: State = ()) -> Float[Array, "..."]:
        """Applies :func:`spectral_norm` with the current estimates."""
        kernel, scale = base.kernel_params(params, "SpectralNorm")
        estimates: SpectralState = base.state_of(state, SpectralState, "SpectralNorm")
        return spectral_norm(kernel, estimates, scale, **{**keywords_of(self, spectral_norm), "iterations": 0})[0]


def _matrix(caller: str, kernel: Array, axis: Axis | None) -> Array:
    """The kernel as (output units, inputs), in at least float32."""
    axes, units = base.unit_axes(caller, kernel, axis)
    rows = 1
    for a in units:
        rows *= kernel.shape[a]
    return kernel.astype(statistics_dtype(kernel.dtype)).transpose(*units, *axes).reshape(rows, -1)


def _product(a: Array, b: Array) -> Array:
    # By default GPUs and TPUs multiply float32 with fewer digits.
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def _kept(new: Array, old: Array) -> Array:
    """The new vector, or the old one if the new one is zero, because iterations cannot leave zero again."""
    return jnp.where(jnp.any(new != 0), new, old)


def _checked(caller: str, state: SpectralState, matrix: Array) -> SpectralState:
    for name, vector, size in zip(("u", "v"), state, matrix.shape, strict=True):
        hint = "Was the state made by init with a kernel of this shape?"
        validate.shape(
            caller, f"state.{name}", vector.shape, (size,), f"({'units' if name == 'u' else 'inputs'},)", hint
        )
    return state


def _check_iterations(caller: str, iterations: int) -> None:
    if isinstance(iterations, bool) or operator.index(iterations) < 0:
        raise ValueError(f"{caller}: iterations must be an integer of at least zero, got {iterations!r}.")
