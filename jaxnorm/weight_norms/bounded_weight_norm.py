"""Bounded weight normalization: weight normalization with lengths that cannot grow."""

from dataclasses import field
from typing import Literal, final

import jax.numpy as jnp

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Axis, Float
from jaxnorm.norms.core.moments import statistics_dtype
from jaxnorm.norms.core.spec import DEFAULT, keywords_of
from jaxnorm.weight_norms import base
from jaxnorm.weight_norms.base import FixedState, KernelParams, KernelSpec, Key, State
from jaxnorm.weight_norms.direction import polar, unit

MODES = ("scalar", "gain_bounded")


class BoundedState(NamedTuple):
    """The fixed state of a :class:`BoundedWeightNorm`: rho, a scalar in at least float32, which is not trained."""

    rho: Float[Array, ""]


def bounded_weight_norm(
    kernel: Float[Array, "..."],
    rho: Float[Array, ""],
    scale: Float[Array, "..."] | None = None,
    *,
    axis: Axis | None = None,
) -> Float[Array, "..."]:
    r"""Gives every output unit the length rho, or gives the vector of all lengths the length rho.

    .. math::
       w_i = \rho \, \frac{v_i}{\lVert v_i \rVert_2}
       \qquad \text{or, with a scale g,} \qquad
       w_i = \rho \, \frac{g_i}{\lVert g \rVert_2} \, \frac{v_i}{\lVert v_i \rVert_2}

    for each output unit i. The paper has only the first form; one file of the authors' code computes the second.

    Args:
      kernel: v, of any shape.
      rho: a number, fixed for the layer.
      scale: g, one number per unit: the shape of the kernel without ``axis``. None selects the first form.
      axis: the axes of a unit's inputs. None means all but the last, as in (I, O) and (kh, kw, I, O). A kernel with
        three axes needs an explicit axis: 0 for gates (I, G, H), (0, 1) for a one-dimensional convolution (k, I, O).

    Returns:
      An array of the shape and dtype of ``kernel``; the arithmetic is done in at least float32.

    Raises:
      TypeError: an array is not floating.
      ValueError: an axis is out of range, named twice, or not named with three axes; or ``scale`` does not have one
        number for each unit.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> v = jnp.array([[3.0, 0.0], [4.0, 2.0]])
      >>> bounded = jaxnorm.weight_norms.bounded_weight_norm
      >>> bounded(v, jnp.array(5.0)).round().astype(int).tolist()
      [[3, 0], [4, 5]]
      >>> bounded(v, jnp.array(50.0), jnp.array([3.0, 4.0])).round().astype(int).tolist()
      [[18, 0], [24, 40]]

    Notes:
      A unit with v = 0 gives w = 0, with gradient zero; so does every unit if g = 0. Another file of the authors'
      code also writes :math:`v / \lVert v \rVert` back into v at each call. That changes no result here; if you want
      it, use ``jaxnorm.optim.project_weights``.

    Reference:
      E. Hoffer, R. Banner, I. Golan, D. Soudry, "Norm matters: efficient and accurate normalization schemes in deep
      networks", 2018, arXiv:1803.01814, section on bounded weight normalization.
    """
    axes, units = base.unit_axes("bounded_weight_norm", kernel, axis)
    validate.floating("bounded_weight_norm", "rho", rho)
    dtype = statistics_dtype(kernel.dtype)
    direction = unit(kernel.astype(dtype), axes) * rho.astype(dtype)
    if scale is not None:
        validate.floating("bounded_weight_norm", "scale", scale)
        shape = [kernel.shape[a] for a in units]
        hint = "The bound is on all units together, so each needs its own number."
        validate.shape("bounded_weight_norm", "scale", scale.shape, shape, "of the units", hint)
        scale = unit(scale.astype(dtype), tuple(range(scale.ndim)))
    return base.rescale("bounded_weight_norm", direction, scale, units, kernel.dtype)


@final
class BoundedWeightNorm(KernelSpec, FixedState):
    """The spec of :func:`bounded_weight_norm`; rho is its state, so no optimizer trains it.

    Attributes:
      mode: "scalar", the paper's form: all units have the length rho, the mean length of the units of the given kernel.
        "gain_bounded", the form of one file of the authors' code: it trains a scale but holds the length of the scale
        at its initial value, rho; a fresh layer has the given kernel.

    Raises:
      ValueError: another mode.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> spec = jaxnorm.weight_norms.BoundedWeightNorm()
      >>> params, state = spec.init(jnp.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 4.0]]))
      >>> state.rho.tolist()  # of 2 and 4
      3.0
      >>> spec(params, state)[3].tolist()
      [1.5, 3.0]
    """

    function = staticmethod(bounded_weight_norm)
    mode: Literal["scalar", "gain_bounded"] = field(default="scalar", kw_only=False)
    axis: Axis | None = DEFAULT

    def __post_init__(self) -> None:
        validate.choice("BoundedWeightNorm", "mode", self.mode, MODES)
        super().__post_init__()

    def init(self, kernel: Float[Array, "..."], key: Key | None = None) -> tuple[KernelParams, State]:
        """The kernel (and, in the mode "gain_bounded", the lengths of its units as scale), and rho as state."""
        axes, units = base.unit_axes("BoundedWeightNorm.init", kernel, self.axis)
        length, _ = polar(kernel.astype(statistics_dtype(kernel.dtype)), axes)
        if self.mode == "scalar":
            return KernelParams(kernel), BoundedState(jnp.mean(length))
        total, _ = polar(length, tuple(range(length.ndim)))
        scale = length.reshape([kernel.shape[a] for a in units]).astype(kernel.dtype)
        return KernelParams(kernel, scale), BoundedState(total.reshape(()))

    def __call__(self, params: KernelParams, state: State = ()) -> Float[Array, "..."]:
        """Applies :func:`bounded_weight_norm`."""
        kernel, scale = base.kernel_params(params, "BoundedWeightNorm")
        rho = base.state_of(state, BoundedState, "BoundedWeightNorm").rho
        return bounded_weight_norm(kernel, rho, scale, **keywords_of(self, bounded_weight_norm))
