"""Error messages for wrong arguments: describe the object that came instead, and suggest the line to write.

We recognize objects by names and attributes, so we do not have to import a library to describe its objects.
"""

import dataclasses
import functools
import inspect
import sys
import types
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The expected kind of argument: its noun, a line that makes one ({} is the size), and a method that marks it."""

    noun: str
    example: str
    method: str = ""

    def sized(self, size: int = 128) -> str:
        """Returns the line with this size."""
        return self.example.format(size)


CELL = Wanted("a cell spec", "ln_lstm({})", "initial_carry")
NORMALIZER = Wanted("a normalizer", "LayerNorm()", "param_shape")
WEIGHT_NORMALIZER = Wanted("a weight normalizer", "WeightNorm()", "advance")
KEY = Wanted("a key", "jax.random.key(0)")
SPEC = Wanted("a spec", "lstm({})")
SPECS = (CELL, NORMALIZER, WEIGHT_NORMALIZER)

LIBRARIES = {"flax": "Flax", "torch": "PyTorch", "keras": "Keras", "haiku": "Haiku", "equinox": "Equinox"}
CONVERTERS = {
    "linen": "convert.linen.load(variables, module)",
    "nnx": "convert.nnx.load(module)",
    "torch": "convert.torch.load(module)",
    "keras": "convert.keras.load(layer)",
    "haiku": "convert.haiku.load(params)",
    "equinox": "convert.equinox.load(module)",
}
CELLS_ELSEWHERE = {
    "LSTMCell": "lstm", "OptimizedLSTMCell": "lstm", "LSTM": "lstm", "GRUCell": "gru", "GRU": "gru",
    "SimpleCell": "elman", "SimpleRNN": "elman", "RNN": "lstm", "VanillaRNN": "elman",
    "MGUCell": "zoo.MGU",
}  # fmt: skip
SIZES = {"hidden_features": "128", "cell": "ln_lstm(128)", "kernels": "WeightNorm()", "num_groups": "4"}
"""Placeholders for arguments without default, in suggested lines."""
LONGEST = 60


def is_one(value: Any, protocol: type) -> bool:
    """Whether a value fits a protocol. A class does not fit, even if it has all the attributes."""
    if isinstance(value, type):
        return False
    # From Python 3.12 on, isinstance overlooks attributes that an object passes on with __getattr__.
    attributes = getattr(protocol, "__protocol_attrs__", ())
    return isinstance(value, protocol) or (bool(attributes) and all(hasattr(value, name) for name in attributes))


def require(caller: str, name: str, value: Any, protocol: type, wanted: Wanted) -> None:
    """Raises TypeError unless ``value`` fits the protocol."""
    if not is_one(value, protocol):
        refuse(caller, name, value, wanted)


def refuse(caller: str, name: str, value: Any, wanted: Wanted) -> None:
    """Raises a TypeError that names the caller, the expected object, the actual object, and what to do."""
    raise TypeError(
        f"{caller}: {name} must be {wanted.noun} such as {wanted.sized()}, got {describe(value)}. "
        f"{advise(value, wanted)}"
    )


def describe(value: Any) -> str:
    """Describes a value in a few words."""
    if isinstance(value, functools.partial):
        return describe(value.func)
    if isinstance(value, type):
        library = _library(value)
        return f"the class {value.__name__}" + (f" of {library}" if library else "")
    if isinstance(value, types.ModuleType):
        return f"the module {value.__name__}"
    if _is_function(value):
        kind = "the function {}" if _kind(value) is None else "the preset {}, which was not called"
        return kind.format(getattr(value, "__name__", repr(value)))
    return _describe_instance(value)


def shown(value: Any) -> str:
    """Shows a value as it is written, but an array with axes by its shape and dtype."""
    return describe(value) if getattr(value, "ndim", 0) else repr(value)


def _describe_instance(value: Any) -> str:
    kind, library = type(value), _library(type(value))
    if value is None:
        return "None"
    if isinstance(value, str):
        return f"the string {_short(value)}"
    if isinstance(value, bool | int | float | np.generic) and np.ndim(value) == 0:
        return f"the number {value!r}"
    if library:
        own = kind.__module__.split(".")[0]
        if own == "jaxnorm":
            space = ".".join(kind.__module__.split(".")[:2])  # the namespace that users import
            return f"the module {space}.{kind.__name__}"
        return f"{library}'s {kind.__name__}" if own in LIBRARIES else f"{kind.__name__}, a module of {library}"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array with shape {tuple(value.shape)} and dtype {value.dtype}"
    if isinstance(value, Mapping) and kind.__module__.split(".")[0] == "jaxnorm":
        return f"an {kind.__name__} with {', '.join(map(repr, list(value)[:6])) or 'nothing in it'}"
    if isinstance(value, Mapping):
        return f"a dict with {', '.join(map(repr, list(value)[:6])) or 'nothing in it'}"
    if hasattr(kind, "_fields"):
        return kind.__name__
    if isinstance(value, list | tuple):
        return f"a {kind.__name__} with {len(value)} entr{'y' if len(value) == 1 else 'ies'}"
    spec = _kind(kind)
    if spec is not None:
        return f"the {spec.noun.removeprefix('a ')} {_short(value)}"
    return f"an object of type {kind.__name__}"


def tensor_line(name: str, value: Any) -> str | None:
    """The line that makes an array of a tensor of another library; None for anything else."""
    roots = {module.split(".")[0] for module in _modules(type(value))}
    if "torch" in roots:
        return f"jnp.asarray({name}.detach().numpy())"
    return f"jnp.asarray({name}.numpy())" if "tensorflow" in roots else None


def advise_parts(value: Any, wanted: Wanted) -> str | None:
    """Says which part of a result of jaxnorm, or of the trace of a function, is wanted; None for anything else."""
    kind = type(value)
    if isinstance(value, jax.core.Tracer):
        return (
            "A spec that goes through jit, grad or vmap as an argument becomes an array: close over it, or mark it "
            "static, jax.jit(function, static_argnums=0)."
        )
    if kind.__module__.split(".")[0] != "jaxnorm":
        return None
    if kind.__name__ == "Directions" and wanted == CELL:
        return "Run both directions by jaxnorm.bidirectional(cells, params, xs), or by convert.run."
    if kind.__name__ == "ImportedModel":
        return "Take one layer of it: found = model[name], then found.spec, found.params."
    if kind.__name__ != "Imported":
        return None
    several = isinstance(value.spec, tuple)
    return f"Pass its parts, found.spec, found.params{': convert.run(found.spec, found.params, xs)' * several}."


def advise(value: Any, wanted: Wanted) -> str:
    """Says what to do, and suggests a line to write."""
    if wanted in (*SPECS, SPEC) and (line := advise_parts(value, wanted)):
        return line
    made = _maker(value)
    spec = _kind(type(value) if made is None else made)
    if spec is not None and wanted not in (spec, SPEC):
        return _advise_other_spec(spec, wanted)
    if made is not None:
        return f"Write {'jaxnorm.' * isinstance(value, str)}{call(made)}."
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 0:
        return f"Write {f'jax.random.key({value})' if wanted == KEY else wanted.sized(int(value) or 128)}."
    if not isinstance(value, type) and _library(type(value)):
        return _advise_module(value, wanted)
    if wanted == CELL and isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return "Run several cells by jaxnorm.stack(cells, params, xs)."
    if wanted == KEY and hasattr(value, "dtype") and is_key_dtype(value.dtype):
        return "These are several keys: pass one of them, keys[0]."
    return f"Write {wanted.sized()}."


def _advise_other_spec(spec: Wanted, wanted: Wanted) -> str:
    """Says what to do with a spec of another kind."""
    if wanted == CELL and spec == NORMALIZER:
        return "A normalizer goes into a cell: LSTM(128, norm=LayerNorm())."
    if wanted == CELL and spec == WEIGHT_NORMALIZER:
        return "A weight normalizer goes around a cell: Reparametrized(ln_lstm(128), WeightNorm())."
    return f"Write {wanted.sized()}."


def _advise_module(value: Any, wanted: Wanted) -> str:
    """Says what to do with a module of another library, or with a Flax module of jaxnorm."""
    kind = type(value)
    if wanted == KEY:
        return "Take one key out of it: rngs.params()." if kind.__name__ == "Rngs" else f"Write {wanted.sized()}."
    if kind.__module__.split(".")[0] == "jaxnorm":
        own = next((name for name in ("cell", "spec") if hasattr(value, name)), None)
        return f"Its spec is module.{own}." if own else f"Write {wanted.sized()}."
    line = wanted.sized()
    if wanted == CELL or (wanted == SPEC and kind.__name__ in CELLS_ELSEWHERE):
        sizes = (getattr(value, name, None) for name in ("features", "hidden_features", "hidden_size", "units"))
        size = next((size for size in sizes if isinstance(size, int)), 128)
        if kind.__name__ not in CELLS_ELSEWHERE and kind.__module__.split(".")[0] not in LIBRARIES:
            return (
                "Write its step as a function: FunctionCell(function, carry_init); a driver of its own library runs "
                "the module itself."
            )
        line = f"{CELLS_ELSEWHERE.get(kind.__name__, 'lstm')}({size})"
    elif wanted in (NORMALIZER, SPEC) and _kind(ours := _public(kind.__name__)) == NORMALIZER:
        line = call(ours)
    root = next(part for part in _modules(kind) if part.split(".")[0] in LIBRARIES).split(".")
    converter = CONVERTERS.get(root[1] if root[0] == "flax" and len(root) > 1 else root[0], "jaxnorm.convert")
    return f"Write {line}; {converter} brings its weights along."


def restore(value: Any, name: str, made: str, line: str) -> str:
    """Says what to do if weights or statistics have the wrong structure; ``line`` makes fresh ones."""
    if hasattr(value, "spec") and hasattr(value, name):  # as convert returns it
        return f"It holds them: pass found.{name}."
    if isinstance(value, Mapping):
        if "params" in value:
            return f"These are the variables of a module of Flax, for module.apply({name}, ...)."
        return f"A checkpoint that was read back: flax.serialization.from_state_dict({line}, {name})."
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return f"Write {made}(*{name}), or {line}."
    if hasattr(type(value), "initial_carry") or hasattr(type(value), "param_shape"):
        return f"A spec holds no weights: make them with {line}."
    return f"Make them with {line}."


def call(made: Any) -> str:
    """The line that calls something: its name, with the arguments that have no default."""
    try:
        parameters = inspect.signature(made).parameters.values()
    except (TypeError, ValueError):
        return f"{made.__name__}()"
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in parameters if p.default is p.empty]
    given = [SIZES.get(p.name, p.name) for p in needed if p.kind in kinds]
    given += [f"{p.name}=..." for p in needed if p.kind is p.KEYWORD_ONLY]
    return f"{made.__name__}({', '.join(given)})"


def is_key_dtype(dtype: Any) -> bool:
    """Whether a dtype is a typed-key dtype."""
    return bool(jnp.issubdtype(dtype, jax.dtypes.prng_key))


def _kind(made: Any) -> Wanted | None:
    """Returns the kind of a spec class, or of the spec that a preset returns."""
    made = made if isinstance(made, type) else getattr(made, "__annotations__", {}).get("return")
    return next((spec for spec in SPECS if isinstance(made, type) and hasattr(made, spec.method)), None)


def is_spec(value: Any) -> bool:
    """Whether something is a cell, a normalizer or a weight normalizer, by its methods."""
    return not isinstance(value, type) and _kind(type(value)) is not None


def _public(name: str) -> Any:
    """Returns the public object with this name; None if there is none."""
    return getattr(sys.modules.get("jaxnorm"), name, None) if name.isidentifier() else None


def _maker(value: Any) -> Any:
    """Returns the callable that makes a spec, for a class, a preset, a function of arrays, or the name of one."""
    if isinstance(value, str):
        value = _public(value)
    if isinstance(value, functools.partial):
        value = value.func
    if not isinstance(value, type) and not _is_function(value):
        return None
    if _kind(value) is not None:
        return value
    # A function and its spec share a file and, apart from case and underscores, a name: layer_norm and LayerNorm.
    name = getattr(value, "__name__", "").replace("_", "")
    beside = vars(sys.modules.get(getattr(value, "__module__", ""), object))
    return next((made for own, made in beside.items() if own.lower() == name and _kind(made) is not None), None)


def _is_function(value: Any) -> bool:
    return inspect.isroutine(value) or (hasattr(value, "__wrapped__") and callable(value))


def _modules(kind: type) -> list[str]:
    return [base.__module__ for base in kind.__mro__]


def _library(kind: type) -> str | None:
    """Returns the library of a class or of one of its base classes."""
    roots = [module.split(".")[0] for module in _modules(kind)]
    return next((LIBRARIES[root] for root in roots if root in LIBRARIES), None)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
