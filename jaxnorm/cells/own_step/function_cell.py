"""A cell made of a function of one step that you write."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, final

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jaxnorm._base import foreign_keywords, objects, validate
from jaxnorm._base.keywords import answers_keywords
from jaxnorm._base.typing import Array, Bool, DTypeLike, ParamsInitializer, PyTree, Shaped
from jaxnorm.cells import carries
from jaxnorm.cells.base import Carry, Key, Products, StepInput, Weights
from jaxnorm.cells.hooks import CellHooks
from jaxnorm.cells.no_module import NoModule
from jaxnorm.cells.own_step.closed_calls import call, check_closure
from jaxnorm.cells.own_step.example_carry import example_carry
from jaxnorm.cells.own_step.results import check_carry, check_function, check_start
from jaxnorm.cells.sites import CellNorms
from jaxnorm.norms.base import Params, Stats
from jaxnorm.norms.identity import Identity


@final
@dataclasses.dataclass(frozen=True)
class FunctionCell(CellHooks, NoModule):
    r"""Runs a step that you write, with masks, resets, directions, stacks and the Flax modules of all other cells.

    .. math:: \text{carry}_t, y_t = \text{function}(\text{params}, \text{carry}_{t-1}, x_t)

    It is for a step of which no cell is made: a recurrent state-space model, a decoder with attention, a recurrent
    policy, an environment.

    Attributes:
      function: ``(params, carry, x) -> (carry, y)``, for a batch: each array begins with the axes of the batch. It is
        pure, and returns a carry of the structure, shapes and dtypes that it gets; y is any tree of arrays, and
        :func:`jaxnorm.unroll` returns a tree of sequences.
      carry_init: the carry before the first step. Either the carry of one example, a tree of arrays, numbers and
        ``jax.ShapeDtypeStruct`` (zeros), with which every example begins; or a function ``(batch_shape) -> carry``. If
        it has parameters ``params``, ``key`` or ``dtype`` it gets by these names the weights (for a learned carry), the
        key of the call, and the dtype of the inputs (of the weights where there are no inputs yet). A carry may hold
        integers, booleans and keys besides floats.
      params_init: ``(key, in_features) -> params``, for ``init`` and the Flax modules; in these the weights need names
        (a dict or a NamedTuple). Params may be any tree; without this function you make them yourself.
      out_features: the size of the last axis of y, if you say it: for code that asks a cell, such as your next layer.
        It is checked then. 0 does not say it.
      feature_axes: number of trailing axes of x that are features of one example.

    Raises:
      TypeError: ``function`` is not a function of three arguments or cannot be hashed, ``carry_init`` holds something
        else than arrays, or one of them uses an array that ``jit`` or ``grad`` is tracing. In a run: ``function``
        returns no pair, or a carry of another structure or dtype.
      ValueError: in a run, ``function`` returns a carry or outputs of another shape.

    Example:
      >>> import jax, jax.numpy as jnp, jaxnorm
      >>> def step(params, carry, x):
      ...     h = jnp.tanh(x @ params["kernel"] + params["decay"] * carry["h"])
      ...     return {"h": h, "steps": carry["steps"] + 1}, h.sum(axis=-1)
      >>> cell = jaxnorm.FunctionCell(step, {"h": jnp.zeros(4), "steps": 0})
      >>> params = {"kernel": jnp.ones((3, 4)), "decay": jnp.full(4, 0.5)}
      >>> out = jaxnorm.unroll(cell, params, jnp.ones((5, 2, 3)), lengths=jnp.array([5, 3]))
      >>> out.outputs.shape, out.carry["steps"].tolist()  # T, B
      ((5, 2), [5, 3])

    Notes:
      Two cells are equal if their functions are the same object. A lambda or ``functools.partial`` made in place is a
      new one each time, so each call compiles again: make it once. Constants that a function closes over are part of
      the compiled program; arrays that change, and those that need gradients, belong to ``params`` or ``xs``.

      Each array of a carry has its own entry for each example, so that masks and resets choose among examples. Write
      ``jax.random.split(key, batch_shape)`` for a key that is used in the steps.

      ``xs`` is one array, of any dtype. In the backward pass ``function`` runs under ``jax.vmap`` over the steps of a
      chunk; ``method="scan"`` calls it step by step.

      The function is all that is computed: nothing is done for all steps at once, and batch statistics that it measures
      stay inside of it. Normalizers without running statistics may be called in it.

      On several devices the function gets parts of the batch, unless an example may look at another in its program. So
      do not compute with the size of the batch, nor with means of random numbers over it.
    """

    function: Callable[[Any, Any, Any], tuple[Any, Any]]
    carry_init: Any
    _: dataclasses.KW_ONLY
    params_init: ParamsInitializer | None = None
    out_features: int = 0
    feature_axes: int = 1

    keyword_advice = foreign_keywords.FUNCTION_CELL

    def __post_init__(self) -> None:
        check_function("FunctionCell", self.function)
        check_closure("FunctionCell", "function", self.function)
        if callable(self.carry_init):
            check_closure("FunctionCell", "carry_init", self.carry_init)
        else:
            object.__setattr__(self, "carry_init", example_carry("FunctionCell", "carry_init", self.carry_init))
        if self.params_init is not None and not callable(self.params_init):
            raise TypeError(
                "FunctionCell: params_init must be a function (key, in_features) that returns params, got "
                f"{objects.describe(self.params_init)}. Pass params themselves to unroll."
            )
        if self.out_features != 0:
            validate.positive_int("FunctionCell", "out_features", self.out_features)
        validate.positive_int("FunctionCell", "feature_axes", self.feature_axes)

    @property
    def hidden_features(self) -> int:
        """The number of features of the outputs, 0 if the spec does not say it."""
        return self.out_features

    @property
    def max_steps(self) -> int:
        """1: there are no running statistics."""
        return 1

    @property
    def sites(self) -> CellNorms:
        """No normalizer at any site."""
        return CellNorms(*(Identity() for _ in CellNorms._fields))

    @property
    def dtype(self) -> DTypeLike | None:
        """None: the function decides."""
        return None

    @property
    def multiplies_state(self) -> bool:
        """False: no kernel is known."""
        return False

    @property
    def fixes_params(self) -> bool:
        """False: any tree may be the weights."""
        return False

    def in_features(self, params: Params) -> int | None:
        """None: the weights do not say it."""
        return None

    def init(self, key: Key, in_features: int) -> Params:
        """Makes fresh weights with ``params_init``."""
        validate.key("FunctionCell.init", "key", key)
        size = validate.positive_int("FunctionCell.init", "in_features", in_features)
        if self.params_init is None:
            raise ValueError(
                "FunctionCell.init: there is no params_init. Pass FunctionCell(function, carry_init, params_init=...), "
                "a function (key, in_features) that returns params, or make params yourself for unroll."
            )
        return self.params_init(key, size)

    def initial_stats(self, dtype: DTypeLike | None = None) -> Stats:
        """There are no running statistics."""
        return CellNorms()

    @answers_keywords(foreign_keywords.INITIAL_CARRY)
    def initial_carry(
        self,
        batch_shape: tuple[int, ...],
        *,
        params: Params | None = None,
        key: Key | None = None,
        dtype: DTypeLike | None = None,
        out_sharding: PartitionSpec | NamedSharding | None = None,
    ) -> Carry:
        """Makes the carry with ``carry_init``; ``out_sharding`` is as in other cells."""
        caller = "FunctionCell.initial_carry"
        batch_shape = validate.sizes(caller, "batch_shape", batch_shape)
        if key is not None:
            validate.key(caller, "key", key)
        if params is None and self.params_init is not None:
            params = self.params_init(jax.random.key(0), 1)  # for the shapes of a learned carry
        given = {"params": params, "key": key, "dtype": dtype or _dtype_of(params)}
        arrays = {name: given.pop(name) for name in ("params", "key")}

        def begin(arrays: dict[str, Any]) -> Any:
            carry = self.carry_init(batch_shape, **_wanted(self.carry_init, arrays | given))
            return check_start(caller, carry, batch_shape)

        return carries.spread(call("FunctionCell", "carry_init", begin, arrays), batch_shape, out_sharding)

    def prepare(
        self,
        params: Params,
        *,
        dtype: DTypeLike | None = None,
        batch_shape: tuple[int, ...] = (),
        key: Key | None = None,
    ) -> Weights:
        """Returns the weights as they are."""
        return params

    def project_inputs(self, weights: Weights, xs: Shaped[Array, "T *B I"]) -> Products:
        """There is no product for all steps at once."""
        return ()

    def normalize_inputs(
        self,
        weights: Weights,
        xs: Shaped[Array, "T *B I"],
        products: Products,
        stats: Stats | None,
        where: Bool[Array, "T *B"] | None,
        measured: Stats | None = None,
    ) -> tuple[PyTree, Stats]:
        """Hands the inputs on to the steps."""
        return xs, CellNorms()

    def project_state(self, weights: Weights, carry: Carry) -> Products:
        """There is no product apart from the function."""
        return ()

    def step(self, weights: Weights, carry: Carry, t: StepInput) -> tuple[Carry, PyTree, Stats]:
        """Calls the function."""
        x = t.x_proj
        batch_shape = x.shape[: x.ndim - self.feature_axes]

        def checked(params: Params, carry: Carry, x: Array) -> tuple[Carry, PyTree]:
            return check_carry("FunctionCell", self.function(params, carry, x), carry, batch_shape, self.out_features)

        new, y = call("FunctionCell", "function", checked, weights, carry, x)
        return new, y, CellNorms()

    def update_running(self, stats: Stats, moments: Stats) -> Stats:
        """Nothing to update."""
        return stats


def _dtype_of(params: Params | None) -> DTypeLike:
    """Returns the dtype of the weights, or the default one without weights."""
    leaves = [leaf for leaf in jax.tree.leaves(params) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)]
    with jax.numpy_dtype_promotion("standard"):
        dtype: DTypeLike = jnp.result_type(*leaves, *([] if leaves else [float]))
        return dtype


def _wanted(function: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Picks the arguments that a function has among its parameters; one that is None must have a default there."""
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # some functions in C have none
        return {}
    for name in ("params", "key"):
        if name in parameters and given[name] is None and parameters[name].default is inspect.Parameter.empty:
            line = "the weights of the cell" if name == "params" else "jax.random.key(...)"
            raise ValueError(
                f"FunctionCell: carry_init takes {name}, but {name} is None. Pass {name}={line}, or give it a default."
            )
    return {name: value for name, value in given.items() if name in parameters}
