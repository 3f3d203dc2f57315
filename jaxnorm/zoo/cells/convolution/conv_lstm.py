"""The convolutional LSTM: its state is an image, and both products are convolutions; with a normalizer at each site."""

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, final

import jax.numpy as jnp

from jaxnorm._base import foreign_keywords, validate
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Axis, DTypeLike, Float, Initializer
from jaxnorm.cells.base import Key, StepInput
from jaxnorm.cells.gates.activation import Gated
from jaxnorm.cells.gates.functions import lstm_functions
from jaxnorm.cells.lstm import FORGET, GATES, LSTMCarry
from jaxnorm.cells.preactivation.gated_base import GatedCellBase
from jaxnorm.cells.preactivation.vectors import align
from jaxnorm.cells.preactivation.weights import GateWeights
from jaxnorm.cells.sites import CellNorms
from jaxnorm.norms.core.moments import statistics_dtype
from jaxnorm.zoo.cells.convolution.preactivation import Convolution, ConvPreActivation
from jaxnorm.zoo.cells.convolution.sites import check_image_site

__all__ = ["ConvLSTM", "ConvLSTMParams"]

PEEPHOLES = 3


class ConvLSTMParams(NamedTuple):
    r"""The weights of a :class:`ConvLSTM`, with gates in the order i f g o; vectors hold gate after gate.

    Kernels are those of one convolution for all gates, (\*window, inputs, 4H), as Flax and Keras have them.
    """

    kernel: Float[Array, "*window I 4H"]
    recurrent: Float[Array, "*window H 4H"]
    bias: Float[Array, " 4H"] | None
    peephole: Float[Array, "*image 3H"] | None
    """Of i, f and o; only with ``use_peepholes``."""
    norm: CellNorms
    carry: LSTMCarry | None = None
    """One number for each channel, the same everywhere in an image."""


@final
@dataclasses.dataclass(frozen=True)
class ConvLSTM(Gated, GatedCellBase):
    r"""Convolutional long short-term memory with normalizers, for images with one, two, three or more axes.

    .. math::
       i, f, g, o &= N_s\bigl(N_x(x_t * W) + N_h(h_{t-1} * U)\bigr) + b \\
       i &\mathrel{+}= P_i \odot c_{t-1}, \qquad f \mathrel{+}= P_f \odot c_{t-1} \\
       c_t &= \sigma(f) \odot c_{t-1} + \sigma(i) \odot \tanh(g), \qquad o \mathrel{+}= P_o \odot c_t \\
       h_t &= \sigma(o) \odot \tanh(N_c(c_t))

    with convolutions :math:`*` and the normalizers :math:`N_x` (site ``input``), :math:`N_h` (``recurrent``),
    :math:`N_s` (``summed``, only if you name it) and :math:`N_c` (``cell``). The peepholes P of the paper are an
    option; Keras, Flax and Haiku have none. Inputs are (T, \*B, \*image, I), outputs, c and h (\*B, \*image, H): an
    example is a whole image, so masks, lengths and resets have the axes of time and batch only.

    A normalizer sees all axes of an image, channels last. ``axis=-1`` normalizes each position over its channels;
    ``GroupNorm(1, axis=(-3, -2, -1))`` each image of two axes as a whole, with one gain for each channel;
    ``LayerNorm((-3, -2, -1))`` the same with one gain for each position and channel; ``InstanceNorm((-3, -2))`` each
    channel of an image. ``BatchNorm`` takes statistics over the batch and all positions.

    Attributes:
      hidden_features: H, the number of channels.
      norm: one normalizer for the sites input, recurrent and cell, or CellNorms(...) with one for each site you name.
      image_shape: the sizes of the axes of an input image, without its channels.
      kernel_size: the size of the window of both convolutions: one number for all axes, or one for each.
      strides: distances between windows on the inputs. The state then has a smaller image. The convolution of the state
        always keeps the shape of the image: its strides are one, and it pads with zeros.
      padding: of the inputs: ``"SAME"`` pads with zeros, ``"VALID"`` takes windows inside of the image only; in
        small letters, too.
      dilation: distances between the elements of a window on the inputs.
      gate_groups: sizes of the groups of consecutive gates (order i f g o) that share statistics at the sites input,
        recurrent and summed: (4,) pools all of them, (1, 1, 1, 1) normalizes each gate alone.
      gate_fn: the function :math:`\sigma` of the gates, see :class:`jaxnorm.LSTM`.
      activation_fn: the function of the candidate g and of the output, for which the equations have tanh.
      use_bias: whether there is a bias b.
      use_peepholes: whether there are peepholes P, one weight for each position and channel; zero at first.
      forget_bias: initial value of b for the forget gate, a number or an initializer. If use_bias is False, it
        initializes the bias of the last norm before the gates that has one.
      kernel_init: initializer of W. It draws each gate separately, as a matrix (window * I, H).
      recurrent_init: initializer of U, used in the same way, (window * H, H). With None, ``kernel_init`` draws W and U
        as one matrix.

    The other fields are common to all cells (:class:`jaxnorm.cells.cell_base.CellBase`).

    Raises:
      ValueError: a size is not positive, numbers of axes differ, a window does not fit into the image, or a normalizer
        does not fit a site.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> cell = jaxnorm.zoo.ConvLSTM(4, image_shape=(8, 8), kernel_size=3, norm=jaxnorm.LayerNorm())
      >>> params = cell.init(jax.random.key(0), in_features=2)
      >>> jaxnorm.unroll(cell, params, jnp.ones((5, 1, 8, 8, 2))).outputs.shape  # T, B, height, width, H
      (5, 1, 8, 8, 4)

    Notes:
      A cell makes its initial carry without seeing inputs, so the spec has the shape of the image. Convolutions are
      computed in at least float32, of operands that are rounded to the compute dtype.

    Reference:
      X. Shi, Z. Chen, H. Wang, D.-Y. Yeung, W. Wong, W. Woo, "Convolutional LSTM Network: A Machine Learning Approach
      for Precipitation Nowcasting", 2015, arXiv:1506.04214, eq. 3.
    """

    _: dataclasses.KW_ONLY
    image_shape: tuple[int, ...]
    kernel_size: int | tuple[int, ...] = 3
    strides: int | tuple[int, ...] = 1
    padding: Literal["SAME", "VALID", "same", "valid"] = "SAME"
    dilation: int | tuple[int, ...] = 1
    gate_groups: tuple[int, ...] = (GATES,)
    use_peepholes: bool = False
    forget_bias: float | Initializer | None = 1.0

    gate_count: ClassVar[int] = GATES
    default_sites: ClassVar[tuple[str, ...]] = ("input", "recurrent", "cell")
    optional_sites: ClassVar[tuple[str, ...]] = ("summed",)
    carry_type: ClassVar[type[LSTMCarry]] = LSTMCarry
    float32_carry: ClassVar[tuple[str, ...]] = ("c",)
    supports_candidate_scale: ClassVar[bool] = True
    keyword_advice: ClassVar[Mapping[str, str]] = foreign_keywords.CONVOLUTIONS
    supports_gate_masks: ClassVar[bool] = False  # one convolution makes the products of all gates

    def __post_init__(self) -> None:
        if not isinstance(self.image_shape, tuple) or not self.image_shape:
            raise ValueError(
                f"ConvLSTM: image_shape must be a tuple such as (height, width), got {self.image_shape!r}."
            )
        for name in ("image_shape", "kernel_size", "strides", "dilation"):
            object.__setattr__(self, name, self._for_each_axis(name, getattr(self, name)))
        validate.choice("ConvLSTM", "padding", self.padding, ("SAME", "VALID", "same", "valid"))
        object.__setattr__(self, "padding", self.padding.upper())  # Keras has small letters
        if min(self.state_shape) < 1:
            raise ValueError(
                f"ConvLSTM: kernel_size={self.kernel_size} with dilation={self.dilation} does not fit into "
                f"image_shape={self.image_shape}. Pass padding='SAME', or a smaller window."
            )
        super().__post_init__()

    def _for_each_axis(self, name: str, value: int | tuple[int, ...]) -> tuple[int, ...]:
        sizes = value if isinstance(value, tuple) else (value,) * len(self.image_shape)
        if len(sizes) != len(self.image_shape):
            raise ValueError(
                f"ConvLSTM: {name} must have one number for each axis of image_shape={self.image_shape}, got {sizes}."
            )
        return tuple(validate.positive_int("ConvLSTM", name, size) for size in sizes)

    def check_site(self, caller: str, norm: Any) -> None:
        """Accepts normalizers over axes of one image, and over the batch."""
        check_image_site(caller, norm, self.feature_axes)

    @property
    def feature_axes(self) -> int:
        """The axes of an image and of its channels."""
        return len(self.image_shape) + 1

    @property
    def kernel_axes(self) -> Mapping[str, Axis]:  # type: ignore[override]  # here it depends on the spec
        """Window and channels are the inputs of a unit."""
        return MappingProxyType(dict.fromkeys(("kernel", "recurrent"), tuple(range(self.feature_axes))))

    @property
    def state_shape(self) -> tuple[int, ...]:
        """The sizes of the axes of an image of c and h."""
        window: Any = self.kernel_size
        return self.input_convolution.image_of(self.image_shape, window)

    @property
    def input_convolution(self) -> Convolution:
        """The convolution of the inputs."""
        strides, dilation = (self._for_each_axis(name, getattr(self, name)) for name in ("strides", "dilation"))
        return Convolution(strides, dilation, self.padding)

    @property
    def gates(self) -> ConvPreActivation:
        """The pre-activation object of all gates."""
        ones = (1,) * len(self.image_shape)
        return ConvPreActivation(
            self.sites,
            self.gate_groups,
            caller="ConvLSTM",
            input_convolution=self.input_convolution,
            state_convolution=Convolution(ones, ones, "SAME"),
        )

    def site_shapes(self) -> CellNorms:
        """The shape of the weights at each site: one number for each channel, or more where the normalizer has them."""
        channels = CellNorms(*(GATES * self.hidden_features,) * 5)._replace(cell=self.hidden_features)
        pairs = zip(self.sites, channels, strict=True)
        return CellNorms(*(norm.param_shape((*self.state_shape, size)) for norm, size in pairs))

    def in_features(self, params: ConvLSTMParams) -> int:
        """I, the number of channels that the weights are made for."""
        channels: int = params.kernel.shape[-2]
        return channels

    def init_params(self, key: Key, in_features: int) -> ConvLSTMParams:
        """Draws the weights; ``init`` compiles this."""
        window: Any = self.kernel_size
        drawn = self.init_gated(key, in_features, FORGET, self.forget_bias)
        for name, inputs in (("kernel", in_features), ("recurrent", self.hidden_features)):
            drawn[name] = drawn[name].reshape(*window, inputs, GATES * self.hidden_features)
        shape = (*self.state_shape, PEEPHOLES * self.hidden_features)
        peephole = jnp.zeros(shape, self.param_dtype) if self.use_peepholes else None
        return ConvLSTMParams(**drawn, peephole=peephole)

    def kernel_rows(self, in_features: int) -> tuple[int, int]:
        """The numbers of inputs of a unit: all elements of a window."""
        size = math.prod(self._for_each_axis("kernel_size", self.kernel_size))
        return size * in_features, size * self.hidden_features

    def extra(self, params: ConvLSTMParams, dtype: DTypeLike) -> Array | tuple[()]:
        """The peepholes, in at least float32."""
        return () if params.peephole is None else params.peephole.astype(statistics_dtype(params.peephole.dtype))

    def project_inputs(self, weights: GateWeights, xs: Float[Array, "..."]) -> Float[Array, "..."]:
        """Convolves the inputs of all steps, in at least float32."""
        kernel: Any = weights.kernel
        image = (*self.image_shape, kernel.shape[-2])
        if xs.shape[-self.feature_axes :] != image:
            raise ValueError(
                f"ConvLSTM: inputs must end with image_shape and channels, {image}, got shape {xs.shape}. The sizes of "
                "images are fields of the spec; its weights fit images of any size."
            )
        return self.gates.project_inputs(weights, xs)

    def step(
        self, weights: GateWeights, carry: LSTMCarry, t: StepInput
    ) -> tuple[LSTMCarry, Float[Array, "*B H"], CellNorms]:
        """Computes the gates, the cell state and the output of one step."""
        (i, f, g, o), measured = self.gates(weights, t)
        before = carry.c.astype(o.dtype)
        if self.use_peepholes:
            p_i, p_f, p_o = (align(p, o) for p in jnp.split(weights.extra, PEEPHOLES, axis=-1))
            i, f = i + p_i * before, f + p_f * before
        parts = lstm_functions(self.gate_fn, self.activation_fn)
        c = parts.cell_state(i, f, g, before, t.candidate_scale)
        c_hat, m_cell = self.normalize_site("cell", weights, c, t)
        h = parts.output(o + p_o * c if self.use_peepholes else o, c_hat).astype(carry.h.dtype)
        return LSTMCarry(c.astype(carry.c.dtype), h), h, measured._replace(cell=m_cell)
