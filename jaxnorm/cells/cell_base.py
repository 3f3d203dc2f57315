"""The common base of cells: their fields, the weights and statistics of their sites, and their carries.

A cell adds its own weights, its equations, and the methods from ``prepare`` to ``step``.
"""

import abc
import dataclasses
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, cast

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jaxnorm._base import foreign_keywords, validate
from jaxnorm._base.keywords import answers_keywords
from jaxnorm._base.starts import check_start, filled
from jaxnorm._base.typing import Array, Axis, DTypeLike, Initializer
from jaxnorm.cells import carries, initializers, sites
from jaxnorm.cells.base import Key, StepInput, Weights
from jaxnorm.cells.gates.activation import check_functions
from jaxnorm.cells.hooks import CellHooks
from jaxnorm.cells.initializers import GatesInitializer
from jaxnorm.cells.no_module import NoModule
from jaxnorm.cells.preactivation.layout import with_gate
from jaxnorm.cells.sites import CellNorms
from jaxnorm.norms.base import Normalizer, Stats
from jaxnorm.norms.core.moments import statistics_dtype
from jaxnorm.norms.identity import Identity

BIAS, RECURRENT_BIAS, NORMS = 1001, 1002, 1003
"""What is folded into the key of ``init`` for biases and norms; kernels split it, and initial gates fold in 2."""

STARTS = ("forget_bias", "update_bias", "transform_bias")
"""The fields that start the bias of one gate."""


@dataclasses.dataclass(frozen=True)
class CellBase(CellHooks, NoModule, abc.ABC):
    """The common part of cells; not a cell itself.

    Attributes:
      hidden_features: H.
      norm: one normalizer for all sites of the cell, or CellNorms(...) with one for each site that you name.
      use_bias: whether there are biases.
      bias_init: initial value of all biases, a number or an initializer, which draws each gate (H,) separately.
      kernel_init: initializer of the input kernels. It draws each gate (I, H) separately, or jointly inside
        :class:`jaxnorm.initializers.Joint`; a tuple gives one initializer per gate.
      learn_carry: whether the initial carry is a parameter (zero at first).
      initial_noise: standard deviation of Gaussian noise on the initial h, independent for each example; needs a key.
      max_steps: rows of running statistics, one per time step; the last serves all later steps, and 1 pools over time.
      dtype: dtype of the products and outputs; None promotes inputs and weights.
      param_dtype: dtype of the weights.
      carry_dtype: dtype of the cell state (None: at least float32), or of h in a cell without a cell state (None: the
        compute dtype).
    """

    hidden_features: int
    _: dataclasses.KW_ONLY
    norm: Normalizer | CellNorms = Identity()
    use_bias: bool = True
    bias_init: float | Initializer = 0.0
    kernel_init: GatesInitializer = initializers.lecun_normal
    learn_carry: bool = False
    initial_noise: float = 0.0
    max_steps: int = 1
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    carry_dtype: DTypeLike | None = None

    kernel_axes: ClassVar[Mapping[str, Axis]] = MappingProxyType({"kernel": 0, "recurrent": 0})
    default_sites: ClassVar[tuple[str, ...]] = ()
    """The sites that get a normalizer if one is given for all sites."""
    optional_sites: ClassVar[tuple[str, ...]] = ()
    """Further sites, which get a normalizer only by name."""
    carry_type: ClassVar[Any]
    """The NamedTuple of the state; it has an entry h."""
    float32_carry: ClassVar[tuple[str, ...]] = ()
    """Entries of the carry that stay in at least float32, since they are sums over many steps."""

    def __post_init__(self) -> None:
        caller = type(self).__name__
        validate.positive_int(caller, "hidden_features", self.hidden_features)
        validate.positive_int(caller, "max_steps", self.max_steps)
        validate.in_range(caller, "initial_noise", self.initial_noise, 0.0, float("inf"))
        for name in ("dtype", "param_dtype", "carry_dtype"):  # jnp.float32 and "float32" make equal specs
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else jnp.dtype(value))
        check_functions(self)
        if "h" not in self.carry_type._fields:
            raise TypeError(
                f"{caller}: carry_type must have an entry h, the state that the next step sees, got "
                f"{', '.join(self.carry_type._fields)}. Rename the entry that project_state multiplies."
            )
        norm = sites.resolve_sites(caller, self.norm, self.default_sites, self.optional_sites, check=self.check_site)
        object.__setattr__(self, "norm", norm)

    def _check_starts(self, caller: str) -> None:
        """Checks the initial values of biases: those that the cell has as fields."""
        for name in ("bias_init", *STARTS):
            if getattr(self, name, None) is not None:
                check_start(caller, name, getattr(self, name))
        if not self.use_bias and (callable(self.bias_init) or self.bias_init != 0.0):
            raise ValueError(
                f"{caller}: bias_init is where biases start, but use_bias is False. Leave it out, or pass it to the "
                "normalizer: LayerNorm(bias_init=...)."
            )

    def check_site(self, caller: str, norm: Normalizer) -> None:
        """Raises ValueError unless a normalizer can stand at a site; ``caller`` names cell and site."""
        norm.check_site(caller)

    def shown_fields(self) -> dict[str, Any]:
        """Shows a normalizer that stands at all default sites once, and no empty sites."""
        shown = super().shown_fields()
        chosen = {name: norm for name, norm in self.sites._asdict().items() if norm != Identity()}
        if tuple(chosen) in ((), self.default_sites) and len(set(chosen.values())) <= 1:
            return {**shown, "norm": next(iter(chosen.values()), Identity())}
        return {**shown, "norm": CellNorms(**chosen)}

    @property
    def sites(self) -> CellNorms:
        """The normalizers at all sites."""
        return cast(CellNorms, self.norm)  # __post_init__ made it so

    @property
    def out_features(self) -> int:
        """Number of features of the outputs."""
        return self.hidden_features

    def site_shapes(self) -> CellNorms:
        """The shape of the features that a normalizer sees at each site; gates are flat, (G*H,)."""
        gates = (self.gate_count * self.hidden_features,)
        return CellNorms(input=gates, recurrent=gates, summed=gates, cell=(self.hidden_features,))

    @property
    def state_shape(self) -> tuple[int, ...]:
        """The sizes of the axes of a carry between those of the batch and the features; most cells have none."""
        return ()

    def carry_features(self) -> dict[str, int]:
        """Returns the number of features of each entry of the carry."""
        return dict.fromkeys(self.carry_type._fields, self.hidden_features)

    def init(self, key: Key, in_features: int) -> Any:
        """Makes fresh weights for inputs with ``in_features`` features."""
        caller = f"{type(self).__name__}.init"
        validate.key(caller, "key", key)
        self._check_starts(caller)
        return _init_params(self, key, validate.positive_int(caller, "in_features", in_features))

    @abc.abstractmethod
    def init_params(self, key: Key, in_features: int) -> Any:
        """Draws the weights; :meth:`init` compiles this."""

    def init_gates(self, name: str, init: Any, key: Key, shape: tuple[int, int]) -> Array:
        """Draws a kernel (I, G, H), by default each gate separately."""
        caller = f"{type(self).__name__}.init"
        initializers.check_gates_initializer(caller, name, init, self.gate_count)
        return initializers.blocks(init, key, shape, self.gate_count, self.param_dtype, f"{caller}: {name}")

    def init_kernels(self, recurrent_init: GatesInitializer | None, key: Key, in_features: int) -> tuple[Array, Array]:
        """Draws kernels W (I, G, H) and U (H, G, H); without an initializer for U it splits one kernel of [x, h].

        Where the output is a projection, U has a row for each of its features.
        """
        hidden, (inputs, state) = self.hidden_features, self.kernel_rows(in_features)
        input_key, recurrent_key = jax.random.split(key)
        if recurrent_init is None:
            both = self.init_gates("kernel_init", self.kernel_init, input_key, (inputs + state, hidden))
            return both[:inputs], both[inputs:]
        return (
            self.init_gates("kernel_init", self.kernel_init, input_key, (inputs, hidden)),
            self.init_gates("recurrent_init", recurrent_init, recurrent_key, (state, hidden)),
        )

    def fresh_bias(self, key: Key, stream: int = BIAS) -> Array:
        """Draws a bias (G*H,) from ``bias_init``."""
        key = jax.random.fold_in(key, stream)
        place, size = f"{type(self).__name__}.init: bias_init", self.hidden_features
        return initializers.vector(self.bias_init, key, self.gate_count, size, self.param_dtype, place)

    def start_bias(self, key: Key, gate: int, start: float | Initializer | None) -> Array:
        """Draws a bias (G*H,) from ``bias_init``; the given gate from ``start``, unless that is None."""
        bias = self.fresh_bias(key)
        if start is None:
            return bias
        own = filled(start, jax.random.fold_in(key, 2), (self.hidden_features,), self.param_dtype)
        return with_gate(bias, gate, own)

    def second_bias(self, key: Key, *gates: int) -> Array:
        """Draws a bias (G*H,) that is added to another; zero at gates that a field of their own starts."""
        bias, zeros = self.fresh_bias(key, RECURRENT_BIAS), jnp.zeros((self.hidden_features,), self.param_dtype)
        for gate in gates:
            bias = with_gate(bias, gate, zeros)
        return bias

    def fresh_norms(self, key: Key | None = None) -> CellNorms:
        """Makes weights for the normalizers at all sites; those that draw use ``key``, the key of ``init``."""
        key = jax.random.fold_in(jax.random.key(0) if key is None else key, NORMS)
        return sites.init_sites(self.sites, self.site_shapes(), self.param_dtype, key)

    def kernel_rows(self, in_features: int) -> tuple[int, int]:
        """Returns the number of inputs of a unit in the kernel of the inputs, and in that of the state."""
        return in_features, self.out_features

    def fresh_carry(self) -> Any:
        """Makes the parameters of the initial carry; None if it is not learned."""
        if not self.learn_carry:
            return None
        return self.carry_type(**{name: jnp.zeros((n,), self.param_dtype) for name, n in self.carry_features().items()})

    def initial_stats(self, dtype: DTypeLike | None = None) -> CellNorms:
        """Makes running statistics with ``max_steps`` rows; None takes the dtype of the weights, at least float32."""
        wide = dtype or statistics_dtype(self.param_dtype)
        return sites.site_stats(self.sites, self.site_shapes(), self.max_steps, wide)

    @answers_keywords(foreign_keywords.INITIAL_CARRY)
    def initial_carry(
        self,
        batch_shape: tuple[int, ...],
        *,
        params: Any | None = None,
        key: Key | None = None,
        dtype: DTypeLike | None = None,
        out_sharding: PartitionSpec | NamedSharding | None = None,
    ) -> Any:
        """Makes zeros or the learned ``params.carry``, plus noise; a ``CountedCarry`` if the cell counts steps.

        ``dtype`` is the dtype of the outputs. None takes the cell's, else that of the weights (``params``, else
        ``param_dtype``): if the inputs have the dtype of the weights, a call then returns a carry of the same dtypes.

        ``out_sharding`` is the sharding of the batch axes, as ``jnp.zeros`` takes it: P("data") for examples that are
        spread over the mesh axis "data", P("data", "model") for features that are spread, too. :func:`jaxnorm.unroll`
        and :func:`jaxnorm.step` place any carry where its examples are; but a loop of your own needs a carry of the
        type that they return.
        """
        caller = f"{type(self).__name__}.initial_carry"
        batch_shape = validate.sizes(caller, "batch_shape", batch_shape)
        if key is not None:
            validate.key(caller, "key", key)
        learned = carries.learned_carry(caller, params)
        weights = self.param_dtype if params is None else params.kernel.dtype
        compute = jnp.dtype(dtype or self.dtype or weights)
        entries = {}
        for name, size in self.carry_features().items():
            if name in self.float32_carry:
                entry_dtype = self.carry_dtype or statistics_dtype(compute)
            else:
                entry_dtype = compute if self.float32_carry else self.carry_dtype or compute
            start = None if learned is None else getattr(learned, name)
            entries[name] = carries.initial_entry(start, (*batch_shape, *self.state_shape, size), entry_dtype)
        entries["h"] = carries.add_noise(type(self).__name__, entries["h"], self.initial_noise, key)
        carry: Any = self.carry_type(**entries)
        carry = carries.counted(carry, batch_shape) if self.max_steps > 1 or self.uses_age else carry
        return carries.spread(carry, batch_shape, out_sharding)

    def normalize_site(self, site: str, weights: Weights, x: Any, t: StepInput) -> tuple[Array, Stats]:
        """Applies the normalizer of a site to the features of a step; also returns the moments."""
        return sites.normalize(getattr(self.sites, site), getattr(weights.norm, site), x, t.at(site))

    def update_running(self, stats: CellNorms, moments: CellNorms) -> CellNorms:
        """Folds the moments of a call into running statistics, by the rule of each site's normalizer."""
        return sites.fold_sites(self.sites, stats, moments)


@partial(jax.jit, static_argnums=(0, 2))
def _init_params(cell: CellBase, key: Key, in_features: int) -> Any:
    return cell.init_params(key, in_features)
