"""The protocol of a cell: pure methods, in the order in which they are called.

``init`` and ``initial_carry`` make the weights and the first carry. Then ``prepare`` (weights and masks, once a
sequence) -> ``project_inputs`` and ``normalize_inputs`` (all steps at once) -> ``project_state`` (the recurrent product
of a step) -> ``step`` (element-wise work and norms). ``update_running`` follows after the loop. Both projections are
linear, so the engine can transpose them. A cell contains no loop: the engine has the only one.
"""

from typing import Any, Protocol, TypeAlias, runtime_checkable

from jaxnorm._base import objects
from jaxnorm._base.namedtuple import NamedTuple
from jaxnorm._base.typing import Array, Bool, DTypeLike, Float, Int, PRNGKeyArray, PyTree, Shaped
from jaxnorm.cells.sites import CellNorms, SiteInput
from jaxnorm.norms.base import Params, Stats

Weights: TypeAlias = PyTree
"""The weights of a cell as ``prepare`` returns them, for a whole sequence."""

Products: TypeAlias = PyTree
"""Matrix products: any tree of arrays; ``()`` for none."""

Carry: TypeAlias = PyTree
Key: TypeAlias = PRNGKeyArray | Shaped[Array, "2"]


class CountedCarry(NamedTuple):
    """A carry together with the number of steps that each example has run since its sequence began.

    A cell with separate statistics for each time step, or with a first step of its own, carries this count, so that you
    can split a sequence over several calls. You can read the fields of the inner carry directly: ``counted.h``.
    """

    carry: Any
    step: Int[Array, "*B"]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.carry, name)


class StepInput(NamedTuple):
    """What a step gets besides the weights and the carry."""

    x_proj: PyTree
    """The normalized input products of this step, from ``normalize_inputs``."""
    h_proj: Products
    """The recurrent products of this step, from ``project_state``."""
    stats: CellNorms | None = None
    """The running statistics that serve each example; None measures the batch."""
    where: Bool[Array, "*B"] | None = None
    """True on real examples."""
    key: Key | None = None
    measured: CellNorms | None = None
    """The moments that the forward pass kept, only in the backward pass: use them, and differentiate as if you had
    measured them. In the forward pass ``KEEP`` stands at the sites whose moments are to be kept."""
    candidate_scale: Float[Array, "*B H"] | Float[Array, ""] | None = None
    """A constant that multiplies the candidate; recurrent dropout sets it."""
    age: Int[Array, "*B"] | None = None
    """The number of real steps of each example since its sequence began; only for cells whose hook ``uses_age`` is
    True."""

    def at(self, site: str) -> SiteInput:
        """Picks what the normalizer at one site gets."""
        stats, measured = (None if each is None else getattr(each, site) for each in (self.stats, self.measured))
        return SiteInput(stats, self.where, measured)


@runtime_checkable
class Cell(Protocol):
    """The protocol of all recurrent cells: frozen, hashable specs with methods for any leading batch shape."""

    @property
    def hidden_features(self) -> int:
        """H, the number of hidden features."""
        ...

    @property
    def out_features(self) -> int:
        """Number of features of the outputs."""
        ...

    @property
    def max_steps(self) -> int:
        """Number of rows of the running statistics, one per time step; the last row serves all later steps."""
        ...

    @property
    def sites(self) -> CellNorms:
        """The normalizers at all sites; Identity at a site without one."""
        ...

    @property
    def dtype(self) -> DTypeLike | None:
        """The compute dtype; None promotes inputs and weights."""
        ...

    def init(self, key: Key, in_features: int) -> Params:
        """Makes fresh weights for inputs with I features."""
        ...

    def initial_stats(self, dtype: DTypeLike | None = None) -> Stats:
        """Makes running statistics before any data: CellNorms with rows of Moments, ``()`` at sites without statistics.

        ``update_running`` keeps their dtype. None takes the dtype of the weights, at least float32.
        """
        ...

    def initial_carry(
        self,
        batch_shape: tuple[int, ...],
        *,
        params: Params | None = None,
        key: Key | None = None,
        dtype: DTypeLike | None = None,
    ) -> Carry:
        """Makes the carry before the first step: the learned one if the weights hold one, else zeros."""
        ...

    def prepare(
        self,
        params: Params,
        *,
        dtype: DTypeLike | None = None,
        batch_shape: tuple[int, ...] = (),
        key: Key | None = None,
    ) -> Weights:
        """Does the work on the weights that is needed once a sequence, and draws the masks that all steps share."""
        ...

    def project_inputs(self, weights: Weights, xs: Float[Array, "T *B I"]) -> Products:
        """Computes the input products of all steps at once. It is linear in ``xs``, and in the kernels."""
        ...

    def normalize_inputs(
        self,
        weights: Weights,
        xs: Float[Array, "T *B I"],
        products: Products,
        stats: Stats | None,
        where: Bool[Array, "T *B"] | None,
        measured: Stats | None = None,
    ) -> tuple[PyTree, Stats]:
        """Computes everything else that does not depend on the carry, for all steps at once; also returns the moments.

        Statistics, whether given or measured, have a leading axis of steps.
        """
        ...

    def project_state(self, weights: Weights, carry: Carry) -> Products:
        """Computes the recurrent products of a step. It is linear in the carry, and in the kernels."""
        ...

    def step(self, weights: Weights, carry: Carry, t: StepInput) -> tuple[Carry, Float[Array, "*B H"], Stats]:
        """Does the rest of a step: element-wise work and norms. Returns the new carry, the output and the moments."""
        ...

    def update_running(self, stats: Stats, moments: Stats) -> Stats:
        """Folds the moments of a call into running statistics, by the rule of each site's normalizer."""
        ...


@runtime_checkable
class LinearCell(Cell, Protocol):
    """A cell whose carry is linear in the previous one, entry by entry; it can run over all steps at once."""

    def coefficients(self, weights: Weights, x_proj: PyTree) -> tuple[Carry, Carry]:
        """Computes decay and increment, shaped like the carry, from what ``normalize_inputs`` gave for any steps.

        ``step`` turns the carry into ``decay * carry + increment``. A cell whose hook ``uses_age`` is True also gets
        the keyword ``age``, the age of each example before each step.
        """
        ...


def check_cell(caller: str, name: str, value: Any) -> None:
    """Raises TypeError unless ``value`` is a cell; the message names the value it got."""
    objects.require(caller, name, value, Cell, objects.CELL)
