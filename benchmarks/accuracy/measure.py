"""Runs a normalizer of a library on rows of data, and says how far values and gradients are off."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.accuracy import libraries, oracle
from benchmarks.accuracy.inputs import ROWS, Kind, Mask, Rows, half_mask, rows_of
from benchmarks.accuracy.layouts import Layout, members_of


class Errors(NamedTuple):
    """In units in the last place of the row."""

    values: float
    gradients: float


class Setting(NamedTuple):
    """How the normalizer is called and compiled."""

    mask: str
    """``none``, ``all`` (True everywhere), ``half``, or ``axis name`` (no mask, the rows spread over a mapped axis)."""
    level: int | None
    """The optimization level of XLA; None for the usual one."""


MASKS = ("none", "all", "half", "axis name")


class Case(NamedTuple):
    """Rows of data, their cotangent and mask, and what is due."""

    kind: Kind
    x: Rows
    cotangent: Rows
    where: Mask | None
    wanted: tuple[Rows, Rows]


@lru_cache(maxsize=8)
def case_of(kind: Kind, center: bool, mask: str, size: int, dtype: str) -> Case:
    """Twelve rows of data of a kind, six of many elements; with the mean subtracted or not."""
    x, cotangent = rows_of(kind, ROWS if size < 100_000 else ROWS // 2, size, dtype)
    masks: dict[str, Callable[[], Mask]] = {
        "all": lambda: np.ones(x.shape, bool),
        "half": lambda: half_mask(*x.shape),
    }
    where = masks[mask]() if mask in masks else None
    if where is not None:
        cotangent = np.where(where, cotangent, np.zeros((), cotangent.dtype))
    return Case(kind, x, cotangent, where, oracle.normalized(x, cotangent, kind.epsilon, where=where, center=center))


def measure(library: str, layout: Layout, case: Case, setting: Setting) -> Errors | None:
    """The errors of a library's normalizer; None if it does not have it."""
    if case.where is not None and library in libraries.WITHOUT_MASKS:
        return None
    run = _torch if library == "PyTorch" else _jax
    with np.errstate(all="ignore"):
        result = run(library, layout, case.kind.epsilon, setting, case.x, case.cotangent, case.where)
    if result is None:
        return None
    where = case.where
    # What stands where the mask is False is nobody's business but the library's.
    got = (part if where is None else np.where(where, part, np.zeros((), part.dtype)) for part in result)
    return Errors(*(oracle.ulps(g, w, case.kind, case.x, where) for g, w in zip(got, case.wanted, strict=True)))


def _jax(
    library: str, layout: Layout, epsilon: float, setting: Setting, x: Rows, cotangent: Rows, mask: Mask | None
) -> tuple[Rows, Rows] | None:
    spread = setting.mask == "axis name"
    count, members = len(x), members_of(x.shape[1])

    def lay(rows: Rows) -> Any:
        return layout.parts(rows, members) if spread else layout.lay(rows)

    data = jnp.asarray(lay(x))
    shape = data.shape[1:] if spread else data.shape
    programs = _programs(library, layout, shape, epsilon, spread)
    if programs is None:
        return None
    arguments = (data, jnp.asarray(lay(cotangent)), None if mask is None else jnp.asarray(layout.lay(mask)))
    results = (_compiled(program, setting.level, *arguments)(*arguments) for program in programs)
    back = layout.joined if spread else layout.rows
    y, gradient = (back(np.asarray(result), count) for result in results)
    return y, gradient


@lru_cache(maxsize=64)
def _programs(
    library: str, layout: Layout, shape: tuple[int, ...], epsilon: float, spread: bool
) -> tuple[Callable[..., Any], Callable[..., Any]] | None:
    make = libraries.ours if library == "ours" else libraries.PEERS[library]
    norm = make(layout, shape, epsilon, libraries.AXIS_NAME if spread else None)
    if norm is None:
        return None

    def value(x: Any, cotangent: Any, w: Any) -> Any:
        y = jax.vmap(lambda part: norm(part, None), axis_name=libraries.AXIS_NAME)(x) if spread else norm(x, w)
        return y.astype(x.dtype)

    def gradient(x: Any, cotangent: Any, w: Any) -> Any:
        return jax.vjp(lambda x: value(x, None, w), x)[1](cotangent)[0]

    return value, gradient


_cache: dict[Any, Any] = {}


def _compiled(program: Callable[..., Any], level: int | None, *arguments: Any) -> Callable[..., Any]:
    shapes = tuple(None if a is None else (a.shape, str(a.dtype)) for a in arguments)
    key = (program, level, shapes)
    if key not in _cache:
        options: Any = {} if level is None else {"xla_backend_optimization_level": level}
        if len(_cache) > 256:
            _cache.clear()
        _cache[key] = jax.jit(program).lower(*arguments).compile(compiler_options=options)
    program_for: Callable[..., Any] = _cache[key]
    return program_for


def forget_programs() -> None:
    """Has every normalizer traced and compiled again, for callers that change what it is traced for."""
    _cache.clear()
    jax.clear_caches()  # type: ignore[no-untyped-call]


def _torch(
    library: str, layout: Layout, epsilon: float, setting: Setting, x: Rows, cotangent: Rows, mask: Mask | None
) -> tuple[Rows, Rows] | None:
    import torch

    if setting.mask == "axis name" or setting.level is not None:
        return None
    norm = libraries.PEERS["PyTorch"](layout, (), epsilon)
    if norm is None:
        return None
    narrow = x.dtype.itemsize == 2

    def tensor(rows: Rows) -> Any:
        wide = torch.tensor(np.ascontiguousarray(layout.lay(rows.astype(np.float32))))
        return wide.to(torch.bfloat16) if narrow else wide

    data = tensor(x).requires_grad_()
    y = norm(data, None)
    y.backward(tensor(cotangent))

    def back(result: Any) -> Rows:
        rows: Rows = layout.rows(result.detach().to(torch.float32).numpy(), len(x))
        return rows.astype(x.dtype)

    return back(y), back(data.grad)
