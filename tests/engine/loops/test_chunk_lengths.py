"""The default length of a chunk: by bytes on every device, and for the device that a program is traced for."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, NamedSharding, PartitionSpec

import jaxnorm as jn
from jaxnorm._base.devices import Target, find_target
from jaxnorm.engine.loops.chunks import chunk_length
from tests.contracts import cell_checks

MEBIBYTE = 2**20
TPU = AbstractDevice(device_kind="TPU v5 lite", num_cores=1, platform="tpu")


@pytest.mark.parametrize(("platform", "room"), [("cpu", 16), ("tpu", 16), ("gpu", 128), ("cuda", 128)])
@pytest.mark.parametrize(("rows", "hidden"), [(256, 512), (1024, 1024), (8192, 1024), (2048, 64), (128, 1500)])
def test_the_products_of_a_chunk_fit_into_fast_memory(platform, room, rows, hidden):
    """Of whatever may run the program; only one that is known to be for GPUs has more room, for fewer kernels."""
    for steps in (100, 101, 256, 512):
        length = chunk_length(steps, rows, 4 * hidden, platform)
        assert length == 1 or length * rows * 4 * hidden * 4 <= room * MEBIBYTE
        longer = 2 * length  # nearly as long as fits, or as has been measured to be right
        assert longer * rows * 4 * hidden * 4 > room // 2 * MEBIBYTE or length >= (5 if platform == "cpu" else 33)


MEASURED = [
    (784, 4, 128, 56),
    (128, 32, 128, 8),
    (128, 32, 256, 8),
    (100, 64, 512, 10),
    (35, 128, 650, 7),
    (4096, 1, 256, 64),
]


@pytest.mark.parametrize(("steps", "rows", "hidden", "expected"), MEASURED)
def test_measured_shapes_keep_their_lengths_on_cpus(steps, rows, hidden, expected):
    assert chunk_length(steps, rows, 4 * hidden, "cpu") == expected


def lengths_of_loops(cell, xs):
    params = jax.eval_shape(lambda key: cell.init(key, xs.shape[-1]), jax.random.key(0))
    program = jax.make_jaxpr(lambda params, xs: jn.unroll(cell, params, xs).outputs)(params, xs)
    return [e.params["length"] for e in cell_checks.equations(program.jaxpr) if e.primitive.name == "scan"]


def test_the_gates_of_a_cell_count(monkeypatch):
    """An LSTM has twice as many products as an MGU: its chunks are half as long where bytes decide."""
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    xs = jax.ShapeDtypeStruct((256, 256, 8), jnp.float32)
    assert lengths_of_loops(jn.lstm(256), xs) == [16, 16]
    assert lengths_of_loops(jn.zoo.MGU(256), xs) == [8, 32]


def on_mesh(shape, spec, types, sizes=(4, 2)):
    mesh = AbstractMesh(sizes, ("data", "model"), axis_types=types, abstract_device=TPU)
    return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))


def test_a_mesh_tells_the_devices_wherever_the_program_is_traced():
    """Of a slice that this process does not have; an axis over which the inputs are replicated does not count."""
    automatic, explicit = (AxisType.Auto,) * 2, (AxisType.Explicit,) * 2
    found = []
    for spec, types in (
        (PartitionSpec(None, "data"), automatic),
        (PartitionSpec(None, "data"), explicit),
        (PartitionSpec(None, ("data", "model")), explicit),
        (PartitionSpec(), explicit),
    ):
        jax.eval_shape(lambda xs: found.append(find_target(xs)) or xs, on_mesh((6, 16, 3), spec, types))
    assert found == [Target("tpu", 8), Target("tpu", 4), Target("tpu", 8), Target("tpu", 1)]
    assert find_target(jnp.ones(3)) == Target("cpu", 1)


def test_examples_are_counted_on_one_device():
    xs = on_mesh((64, 8192, 8), PartitionSpec(None, "data"), (AxisType.Auto,) * 2, (32, 1))
    assert lengths_of_loops(jn.lstm(512), xs)[0] == 8, "eight chunks of eight steps of 256 examples"


def test_shard_map_has_the_examples_of_one_device():
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    found = []

    @jax.shard_map(mesh=mesh, in_specs=PartitionSpec("data"), out_specs=PartitionSpec("data"))
    def run(xs):
        found.append(find_target(xs))
        return xs

    jax.eval_shape(run, jnp.ones((8, 3)))
    assert found == [Target("cpu", 1)]


def test_only_cpus_carry_the_next_entry():
    """Their compiler does not vectorize what reads from the middle of a long array; others need no copy of it."""
    cell = jn.lstm(8)
    params = jax.eval_shape(lambda key: cell.init(key, 8), jax.random.key(0))
    carried = []
    for xs in (jax.ShapeDtypeStruct((6, 4, 8), jnp.float32), on_mesh((6, 4, 8), PartitionSpec(), (AxisType.Auto,) * 2)):
        for method in ("scan", "chunked"):
            run = lambda params, xs, method=method: jn.unroll(cell, params, xs, method=method).outputs  # noqa: E731
            program = jax.make_jaxpr(run)(params, xs)
            loop = [e for e in cell_checks.equations(program.jaxpr) if e.primitive.name == "scan"][-1]
            results = zip(loop.outvars, loop.params["jaxpr"].jaxpr.outvars, strict=True)
            carried.append(sum(whole.aval.shape == of_step.aval.shape for whole, of_step in results))
    assert carried == [3, 3, 2, 2], "c and h, and on CPUs the products of the next step"
