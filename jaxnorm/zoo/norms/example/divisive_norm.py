"""Divisive normalization: means over a neighborhood instead of the whole layer."""

import math
from dataclasses import field
from typing import TypeAlias, final

import jax.numpy as jnp
from jax import lax

from jaxnorm._base import validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Axis, Bool, Float, Initializer
from jaxnorm.norms import base
from jaxnorm.norms.affine_norm import HasAffine, HasFeatureAxis
from jaxnorm.norms.base import Params, Stateless, Stats
from jaxnorm.norms.core.moments import apply_affine, full_mask, masked, statistics_dtype
from jaxnorm.norms.core.spec import DEFAULT

__all__ = ["DivisiveNorm", "DivisiveParams", "divisive_norm", "local_deviation"]


Window: TypeAlias = int | tuple[int, ...]


class DivisiveParams(NamedTuple):
    """The parameters of :class:`DivisiveNorm`; None where the spec has none."""

    scale: Float[Array, " F"] | None
    bias: Float[Array, " F"] | None
    learned_sigma: Float[Array, ""] | None


def local_deviation(
    x: Float[Array, "..."],
    *,
    window: Window,
    axis: Axis = -1,
    feature_axis: int = -1,
    where: Bool[Array, "..."] | None = None,
) -> Float[Array, "..."]:
    r"""Subtracts from each element the mean over a window around it.

    .. math:: v = z - \frac{1}{|A|} \sum_{j \in A} z_j

    :func:`divisive_norm` then divides v. The paper's additional loss ("L1 regularizer") is the mean of its magnitude
    times a small number.

    Args:
      x: data of any shape.
      window: the length of the window A along each of ``axis``, or one length for all.
      axis: the axes of the window: the feature axis (1-D), or the axes of height and width (2-D).
      feature_axis: the feature axis; if it is not one of ``axis``, the mean runs over all features too.
      where: True on real data, broadcastable to ``x``. Masked elements count as zeros, like the area beyond the edge.

    Returns:
      v, like ``x``, in at least float32; zero where masked.

    Raises:
      TypeError: ``x`` is not floating, or ``where`` not boolean.
      ValueError: an axis is out of range, or the window does not fit the axes.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> jaxnorm.zoo.local_deviation(jnp.array([3.0, 6.0, 9.0, 0.0]), window=3)
      Array([ 0.,  0.,  4., -3.], dtype=float32)

    Reference:
      M. Ren, R. Liao, R. Urtasun, F. H. Sinz, R. S. Zemel, "Normalizing the Normalizers", 2017, arXiv:1611.04520.
    """
    validate.floating("local_deviation", "x", x)
    where = full_mask("local_deviation", x, where)
    widths = _widths("local_deviation", x.shape, axis, feature_axis, "window", window)
    data = masked(x.astype(statistics_dtype(x.dtype)), where)
    return masked(data - _local_mean(data, widths), where)


def divisive_norm(
    x: Float[Array, "..."],
    scale: Float[Array, "..."] | None = None,
    bias: Float[Array, "..."] | None = None,
    *,
    window: Window = 30,
    suppression_window: Window | None = None,
    sigma: float | Float[Array, ""] = 1.0,
    axis: Axis = -1,
    feature_axis: int = -1,
    where: Bool[Array, "..."] | None = None,
) -> Float[Array, "..."]:
    r"""Subtracts a local mean and divides by a local root mean square.

    .. math:: v = z - \frac{1}{|A|} \sum_{j \in A} z_j, \qquad
       y = \text{scale} \cdot \frac{v}{\sqrt{\sigma^2 + \frac{1}{|B|} \sum_{j \in B} v_j^2}} + \text{bias}

    with windows A (summation) and B (suppression) around each element. We pad the edges with zeros and keep the
    divisors :math:`|A|` and :math:`|B|`, so means near an edge are smaller.

    Args:
      x: data of any shape.
      scale: one factor per feature, or an array with as many axes as ``x``. None means one.
      bias: summand, shaped like ``scale``. None means zero.
      window: the length of A along each of ``axis``, or one length for all.
      suppression_window: the length of B; None means the length of A.
      sigma: the constant in the root, which plays the role of epsilon: a number above zero, or a learned scalar array.
      axis: the axes of the windows: the feature axis (1-D), or the axes of height and width (2-D).
      feature_axis: the feature axis; if it is not one of ``axis``, the means run over all features too.
      where: True on real data, broadcastable to ``x``. Masked elements may hold anything, NaN included; they count as
        zeros, like the area beyond the edge, and the output is zero there.

    Returns:
      An array of the shape and dtype of ``x``; the arithmetic is done in at least float32.

    Raises:
      TypeError: an array is not floating, or ``where`` not boolean.
      ValueError: an axis is out of range, a window does not fit the axes, sigma is not positive, or shapes do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> y = jaxnorm.zoo.divisive_norm(jnp.array([3.0, 6.0, 9.0, 0.0]), window=3, sigma=0.0001)
      >>> y.round(2).tolist()[:2], bool(abs(y[2] - 4 / (25 / 3) ** 0.5) < 1e-5)
      ([0.0, 0.0], True)

    Notes:
      Squares overflow float32 if data are more than about 1e19 away from the mean of their window.
      A window of even length reaches one element further to the right. The published code divides the sum over B by
      the size of A. If the windows differ, you get the same result by multiplying sigma and then scale by
      :math:`\sqrt{|A|/|B|}`. If all of v is zero, the result is ``bias``.

    Reference:
      M. Ren, R. Liao, R. Urtasun, F. H. Sinz, R. S. Zemel, "Normalizing the Normalizers", 2017, arXiv:1611.04520.
    """
    validate.floating("divisive_norm", "x", x)
    where = full_mask("divisive_norm", x, where)
    if isinstance(sigma, int | float):
        _check_sigma("divisive_norm", sigma)
    else:
        validate.floating("divisive_norm", "sigma", sigma)
        validate.shape("divisive_norm", "sigma", sigma.shape, (), "()", "One number serves all features.")
    feature = validate.one_axis("divisive_norm", feature_axis, x.ndim, "feature_axis")
    of_sum = _widths("divisive_norm", x.shape, axis, feature_axis, "window", window)
    of_square = of_sum
    if suppression_window is not None:
        of_square = _widths("divisive_norm", x.shape, axis, feature_axis, "suppression_window", suppression_window)
    data = masked(x.astype(statistics_dtype(x.dtype)), where)
    v = masked(data - _local_mean(data, of_sum), where)
    square = jnp.square(jnp.asarray(sigma, data.dtype)) + _local_mean(jnp.square(v), of_square)
    # A learned sigma may become zero, so we avoid dividing by zero.
    nothing = square == 0
    y = v * jnp.where(nothing, 0.0, lax.rsqrt(jnp.where(nothing, jnp.ones((), square.dtype), square)))
    y = apply_affine("divisive_norm", y, scale, bias, (feature,))
    return masked(y, where).astype(x.dtype)


def _check_sigma(caller: str, sigma: float) -> None:
    validate.in_range(caller, "sigma", sigma, 0.0, math.inf)
    if sigma == 0.0 or math.isinf(sigma):
        raise ValueError(f"{caller}: sigma must be above zero and finite, got {sigma!r}. It plays the part of epsilon.")


def _widths(
    caller: str, shape: tuple[int, ...], axis: Axis, feature_axis: int, name: str, window: Window
) -> dict[int, int | None]:
    """Returns the length of a window along each of its axes; None means that it spans the whole axis."""
    sorted_axes = validate.axes(caller, axis, len(shape))
    given = axis if isinstance(axis, tuple) else sorted_axes
    lengths = window if isinstance(window, tuple) else (window,) * len(given)
    if len(lengths) != len(given):
        raise ValueError(
            f"{caller}: {name}={window} must have a length for each of the {len(given)} axes in axis={axis}. "
            "Give one number, or as many as axes."
        )
    widths: dict[int, int | None] = {
        a % len(shape): validate.positive_int(caller, name, length) for a, length in zip(given, lengths, strict=True)
    }
    feature = validate.one_axis(caller, feature_axis, len(shape), "feature_axis")
    return widths if feature in widths else {**widths, feature: None}


def _local_mean(data: Array, widths: dict[int, int | None]) -> Array:
    """Sums over a window around each element and divides by its size; pads the edges with zeros."""
    size = math.prod(data.shape[a] if width is None else width for a, width in widths.items())
    whole = tuple(a for a, width in widths.items() if width is None)
    total = jnp.sum(data, axis=whole, keepdims=True) if whole else data
    lengths = tuple(widths.get(a) or 1 for a in range(data.ndim))
    padding = tuple(((length - 1) // 2, length // 2) for length in lengths)
    summed: Array = lax.reduce_window(total, data.dtype.type(0), lax.add, lengths, (1,) * data.ndim, padding)
    return summed / size


@final
class DivisiveNorm(HasFeatureAxis, HasAffine, Stateless):
    """The spec of :func:`divisive_norm`; its fields are its keywords.

    The paper uses a window of 30 units for an LSTM, 60 for a simple recurrent network; the published code has a sigma
    of 1 or 0.01.

    Attributes:
      use_learned_sigma: whether to train sigma, starting from this value.

    Example:
      >>> import jax.numpy as jnp, jaxnorm
      >>> norm = jaxnorm.zoo.DivisiveNorm(3)
      >>> y, _ = norm(norm.init((4,)), jnp.array([[3.0, 6.0, 9.0, 0.0]]))
      >>> y.round(2).tolist()[0][:2]
      [0.0, 0.0]
    """

    function = staticmethod(divisive_norm)
    params_type = DivisiveParams
    scalars = ("learned_sigma",)
    window: Window = field(default=DEFAULT, kw_only=False)
    suppression_window: Window | None = DEFAULT
    axis: Axis = DEFAULT
    feature_axis: int = DEFAULT
    sigma: float = DEFAULT
    use_learned_sigma: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("window", "suppression_window"):
            value = getattr(self, name)
            if isinstance(value, list):
                object.__setattr__(self, name, value := tuple(value))
            for length in value if isinstance(value, tuple) else () if value is None else (value,):
                validate.positive_int("DivisiveNorm", name, length)
        _check_sigma("DivisiveNorm", self.sigma)

    def initial_value(self, name: str, shape: tuple[int, ...]) -> float | Initializer:
        """A learned sigma starts as the field ``sigma``."""
        return self.sigma if name == "learned_sigma" else super().initial_value(name, shape)

    def __call__(
        self,
        params: Params,
        x: Float[Array, "..."],
        stats: Stats | None = None,
        where: Bool[Array, "..."] | None = None,
    ) -> tuple[Float[Array, "..."], Stats]:
        """Applies :func:`divisive_norm`, with the learned sigma if there is one."""
        weights = base.weights_of(params, DivisiveParams, "DivisiveNorm")
        learned = {} if weights.learned_sigma is None else {"sigma": weights.learned_sigma}
        return self.apply(divisive_norm, weights._replace(learned_sigma=None), x, where=where, **learned), ()

    def check_site(self, caller: str) -> None:
        """Accepts only ``axis=-1`` with a fixed sigma."""
        super().check_site(caller)
        if self.use_learned_sigma:
            raise ValueError(
                f"{caller}: {self!r} cannot be used inside a cell, where weights have gates and features. Use "
                "use_learned_sigma=False."
            )
