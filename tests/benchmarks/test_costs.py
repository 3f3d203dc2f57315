"""The benchmark of all normalizers: each is in it, and its table compares them with layer normalization."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import run
from benchmarks.machine import describe
from benchmarks.programs.normalizers import SPECS, names_for
from benchmarks.programs.ours import PROGRAMS
from benchmarks.programs.presets import PRESETS
from benchmarks.report import report
from benchmarks.results import read
from benchmarks.shapes import NORM_SHAPES, Shape
from tests import cases
from tests.benchmarks.test_benchmarks import a_row


def test_normalizers_with_a_cost_have_sensible_options():
    specs = {type(case.spec) for case in cases.NORMS}
    core = {kind for kind in specs if kind.__module__.startswith("jaxnorm.norms.")}
    assert core <= {type(spec) for make in SPECS.values() if (spec := make(NORM_SHAPES["32x56x56x64"]))} <= specs
    for name in NORM_SHAPES:
        shape = NORM_SHAPES[name]
        for model in names_for(shape):
            spec = SPECS[model](shape)
            weights = spec.param_shape(shape)

            def train(spec=spec, weights=weights, shape=shape):
                state = spec.initial_stats(weights)
                y, measured = spec.train(spec.init(weights), jnp.ones(shape), state)
                return y, spec.update_running(state, measured), state

            y, folded, state = jax.eval_shape(train)
            assert y.shape == shape
            assert folded == state
    assert set(SPECS) - set(names_for((4096, 1024))) == {
        "instance_norm", "filter_response_norm", "evo_norm_b0", "frame_wise_batch_norm",
    }  # fmt: skip


@pytest.mark.long
def test_costs_are_written_with_their_ratios(tmp_path):
    words = ["--shapes", "tiny", "--rounds", "1", "--dtypes", "bfloat16", "--models", "layer_norm", "power_norm"]
    assert run.main(["costs", *words, "--out", str(tmp_path / "new")]) == 0
    rows = read(tmp_path / "new")
    assert [row.key for row in rows] == [
        ("costs", "tiny", model, "ours", "bfloat16", direction)
        for direction in ("forward", "gradient")
        for model in ("layer_norm", "power_norm")
    ]
    assert "## Costs of the normalizers" in (tmp_path / "new" / "results.md").read_text(encoding="utf-8")


def test_costs_are_relative_to_layer_norm():
    def cost(model, direction, median, temp):
        return a_row(group="costs", model=model, direction=direction, median=median, xla_temp_bytes=temp)

    mib = 2**20
    rows = [cost("layer_norm", "gradient", 2.0, 2 * mib), cost("identity", "gradient", 0.5, 3 * mib)]
    rows += [cost("layer_norm", "forward", 1.0, 100), cost("identity", "forward", 1.5, 2 * mib)]
    lines = report(rows, describe(), []).splitlines()
    assert "| `layer_norm` | 1 (1) | 1.00 | 9.54e-05 | - | 2 (1) | 1.00 | 2 | 1.00 |" in lines
    assert "| `identity` | 1.5 (1) | 1.50 | 2 | - | 0.5 (1) | 0.25 | 3 | 1.50 |" in lines


def test_every_preset_has_a_program():
    """Traced, not run: outputs in the dtype that is measured, as many as there are hidden features."""
    shape = Shape(2, 3, 5, 8)
    for name in PRESETS:

        def outputs(name=name):
            program = PROGRAMS["ours"][name](shape, "bfloat16")
            return program.apply(program.params, program.state, program.xs)[0]

        ys = jax.eval_shape(outputs)
        assert (ys.shape, ys.dtype) == ((3, 2, 8), jnp.bfloat16), name
    assert {"ln_lstm", "bn_lstm", "Zoneout", "weight_norm_lstm", "ProjectedLSTM"} <= set(PRESETS)
