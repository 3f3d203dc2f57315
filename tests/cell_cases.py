"""The rows of the table for cells; ``tests/cases.py`` has the others, and hands these on."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest

import jaxnorm as jn
from tests.tools.docs import load

GATED = {"kernel": (0, 2), "recurrent": (0, 2)}
UNGATED = {"kernel": (0, 1), "recurrent": (0, 1)}
BLOCKS = {"kernel": (1, 3)}


class CellCase(NamedTuple):
    """A cell on inputs with ``IN_FEATURES`` features."""

    name: str
    cell: Any
    batch_statistics: bool = False
    products_in_loop: int = 1
    """Matrix products in the body of the loop."""
    products_before: int = 1
    """Matrix products before the loop, for the inputs."""
    vector_sizes: tuple[int, ...] = ()
    """Sizes of vectors that hold something else than hidden features or outputs, gate after gate."""
    kernels: Mapping[str, tuple[int, int]] = GATED
    """The axes of inputs and outputs of each kernel; all other weights are vectors."""

    def __str__(self) -> str:
        return self.name


IN_FEATURES = 3
HIDDEN = 4
MAX_STEPS = 3

LN_SITE = jn.LayerNorm()


def own_step(params: Any, carry: Any, x: Any) -> Any:
    """A step as a user writes it: that of an Elman network."""
    h = x @ params.kernel + carry.h @ params.recurrent
    h = jnp.tanh(h + jnp.broadcast_to(params.bias, h.shape))
    return jn.ElmanCarry(h), h


def own_carry(batch_shape: tuple[int, ...], dtype: Any) -> Any:
    return jn.ElmanCarry(jnp.zeros((*batch_shape, HIDDEN), dtype))


def own_params(key: Any, in_features: int) -> Any:
    return jn.elman(HIDDEN).init(key, in_features)


CELLS = (
    CellCase("elman", jn.elman(HIDDEN), kernels=UNGATED),
    CellCase("lstm", jn.lstm(HIDDEN)),
    CellCase("gru", jn.gru(HIDDEN)),
    CellCase("ln_rnn", jn.ln_rnn(HIDDEN), kernels=UNGATED),
    CellCase("ln_lstm", jn.ln_lstm(HIDDEN)),
    CellCase("ln_gru", jn.ln_gru(HIDDEN)),
    CellCase("rms_lstm", jn.rms_lstm(HIDDEN)),
    CellCase("rms_gru", jn.rms_gru(HIDDEN)),
    CellCase("bn_lstm", jn.bn_lstm(HIDDEN, max_steps=MAX_STEPS), True),
    CellCase("bn_gru_pooled", jn.GRU(HIDDEN, norm=jn.BatchNorm(scale_init=0.1)), True),
    CellCase("ln_lstm_per_gate_learned_carry", jn.ln_lstm(HIDDEN, gate_groups=(1, 1, 1, 1), learn_carry=True)),
    CellCase("elman_everywhere", jn.Elman(HIDDEN, norm=jn.LayerNorm(), activation_fn=jax.nn.relu), kernels=UNGATED),
    CellCase(
        "lstm_summed_per_gate",
        jn.LSTM(
            HIDDEN,
            norm=jn.CellNorms(summed=jn.LayerNorm(), cell=jn.LayerNorm()),
            gate_groups=(1, 1, 1, 1),
            bias_at="input",
            carried_cell="normalized",
            cell_clip=0.9,
        ),
    ),
    CellCase("bn_lstm_summed", jn.LSTM(HIDDEN, norm=jn.CellNorms(summed=jn.BatchNorm(scale_init=0.5))), True),
    CellCase(
        "gru_candidate_summed",
        jn.GRU(HIDDEN, norm=jn.CellNorms(summed=jn.LayerNorm()), gate_groups=(3,), reset="candidate", update_bias=-1.0),
    ),
    CellCase("dreamer_v3_gru", jn.zoo.dreamer_v3_gru(HIDDEN), vector_sizes=(IN_FEATURES + HIDDEN,)),
    CellCase(
        "dreamer_v3_block_gru",
        jn.zoo.dreamer_v3_block_gru(HIDDEN, blocks=2),
        products_in_loop=4,
        vector_sizes=(2,),
        kernels={**UNGATED, "block": (1, 2), "mix": (0, 1), "gates": (1, 3)},
    ),
    CellCase("norm_prop_lstm", jn.zoo.norm_prop_lstm(HIDDEN)),
    CellCase("assorted_time_lstm", jn.zoo.assorted_time_lstm(HIDDEN, steps=3)),
    CellCase(
        "ln_projected_lstm",
        jn.zoo.ProjectedLSTM(HIDDEN, 3, norm=jn.CellNorms(LN_SITE, LN_SITE, cell=LN_SITE, projection=LN_SITE)),
        products_in_loop=2,
        kernels={**GATED, "projection": (0, 1)},
    ),
    CellCase("bn_reset_before_gru", jn.zoo.ResetBeforeGRU(HIDDEN, norm=jn.BatchNorm(scale_init=0.1)), True, 2),
    CellCase("ln_peephole_lstm", jn.zoo.PeepholeLSTM(HIDDEN, norm=LN_SITE)),
    CellCase("ln_coupled_lstm", jn.zoo.CoupledLSTM(HIDDEN, norm=LN_SITE)),
    CellCase(
        "indrnn_batch_norm",
        jn.zoo.IndRNN(
            HIDDEN,
            norm=jn.CellNorms(input=jn.LayerNorm(), recurrent=jn.BatchNorm(), cell=jn.RMSNorm()),
            learn_carry=True,
        ),
        batch_statistics=True,
        products_in_loop=0,
        kernels={"kernel": (0, 1)},
    ),
    CellCase("ligru", jn.zoo.ligru(HIDDEN), True),
    CellCase("ln_mgu", jn.zoo.mgu(HIDDEN, norm=jn.CellNorms(LN_SITE, LN_SITE, summed=LN_SITE)), products_in_loop=2),
    CellCase("rms_mgu_recurrent", jn.zoo.MGU(HIDDEN, norm=jn.RMSNorm(), gate_groups=(2,), learn_carry=True)),
    CellCase("bn_mgu_none", jn.zoo.MGU(HIDDEN, norm=jn.BatchNorm(), reset="none", max_steps=MAX_STEPS), True),
    CellCase("ln_mi_rnn", jn.zoo.MIRNN(HIDDEN, norm=LN_SITE), kernels=UNGATED),
    CellCase("ln_mi_lstm", jn.zoo.MILSTM(HIDDEN, norm=LN_SITE)),
    CellCase("ln_mi_gru", jn.zoo.MIGRU(HIDDEN, norm=LN_SITE), products_in_loop=2),
    CellCase("ln_mut1", jn.zoo.MUT1(IN_FEATURES, norm=LN_SITE), products_in_loop=2),
    CellCase("bn_mut2", jn.zoo.MUT2(HIDDEN, norm=jn.BatchNorm(scale_init=0.1), raw_input="projected"), True, 2),
    CellCase("ln_mut3", jn.zoo.MUT3(HIDDEN, norm=LN_SITE), products_in_loop=3),
    CellCase(
        "bn_recurrent_highway",
        jn.zoo.RecurrentHighway(HIDDEN, 3, norm=jn.BatchNorm(scale_init=0.1)),
        True,
        3,
        kernels={"kernel": (0, 2), "recurrent": (1, 3)},
    ),
    CellCase(
        "min_gru",
        jn.zoo.MinGRU(HIDDEN, norm=jn.LayerNorm(), gate_groups=(2,), learn_carry=True),
        products_in_loop=0,
        kernels={"kernel": (0, 2)},
    ),
    CellCase(
        "min_lstm_batch_norm",
        jn.zoo.MinLSTM(HIDDEN, norm=jn.BatchNorm(), candidate="positive", max_steps=MAX_STEPS),
        batch_statistics=True,
        products_in_loop=0,
        kernels={"kernel": (0, 2)},
    ),
    CellCase(
        "rg_lru",
        jn.zoo.RGLRU(IN_FEATURES, blocks=3, learn_carry=True),
        products_in_loop=0,
        kernels=BLOCKS,
    ),
    CellCase(
        "ln_rg_lru",
        jn.zoo.RGLRU(IN_FEATURES, norm=LN_SITE, gate_groups=(2,)),
        products_in_loop=0,
        kernels=BLOCKS,
    ),
    CellCase(
        "rg_lru_batch_norm",
        jn.zoo.RGLRU(IN_FEATURES, blocks=3, norm=jn.BatchNorm(), max_steps=MAX_STEPS),
        batch_statistics=True,
        products_in_loop=0,
        kernels=BLOCKS,
    ),
    CellCase(
        "slstm",
        jn.zoo.SLSTM(
            HIDDEN,
            norm=jn.CellNorms(input=jn.LayerNorm(), recurrent=jn.LayerNorm(), summed=jn.BatchNorm(), cell=jn.RMSNorm()),
            heads=2,
        ),
        batch_statistics=True,
        kernels={"kernel": (0, 2), "recurrent": (1, 3)},
    ),
    # At test time: the contract gives no keys. Training is compared with the equations in the tests of the wrappers.
    CellCase(
        "zoneout_bn_lstm",
        jn.Zoneout(jn.bn_lstm(HIDDEN, max_steps=MAX_STEPS), rate=0.2, cell_rate=0.4, deterministic=True),
        True,
    ),
    CellCase("recurrent_dropout_ln_gru", jn.RecurrentDropout(jn.ln_gru(HIDDEN), rate=0.3, deterministic=True)),
    CellCase("gn_lstm_mixed", jn.LSTM(HIDDEN, norm=jn.CellNorms(input=jn.GroupNorm(2, axis=-1), cell=jn.RMSNorm()))),
    CellCase(
        "function_cell",
        jn.FunctionCell(own_step, own_carry, params_init=own_params, out_features=HIDDEN),
        products_in_loop=2,
        products_before=0,
        kernels=UNGATED,
    ),
    CellCase("skeleton", load("cell").Leaky(HIDDEN, norm=jn.BatchNorm(), max_steps=MAX_STEPS), True, kernels=UNGATED),
    CellCase("gated_skeleton", load("gated_cell").UpdateGated(HIDDEN, norm=jn.LayerNorm())),
)

SPECIFIED = tuple(case for case in CELLS if not isinstance(case.cell, jn.FunctionCell))
"""The cells whose spec says what their weights, kernels and dtypes are: not those that a user's function decides."""

IMAGE_CELLS = (
    CellCase("conv_lstm", jn.zoo.ConvLSTM(2, image_shape=(4, 3), kernel_size=(3, 2), use_peepholes=True)),
    CellCase(
        "ln_conv_lstm_1d_strides",
        jn.zoo.ConvLSTM(2, image_shape=(7,), strides=2, padding="VALID", norm=LN_SITE, learn_carry=True),
    ),
    CellCase("gn_conv_lstm_images", jn.zoo.ConvLSTM(2, image_shape=(3, 2), norm=jn.GroupNorm(1, axis=(-3, -2, -1)))),
    CellCase(
        "ln_conv_lstm_images",
        jn.zoo.ConvLSTM(
            2, image_shape=(3, 2), norm=jn.CellNorms(summed=jn.LayerNorm((-3, -2, -1))), gate_groups=(1, 1, 2)
        ),
    ),
    CellCase("bn_conv_lstm", jn.zoo.ConvLSTM(2, image_shape=(3, 2), norm=jn.BatchNorm(), max_steps=MAX_STEPS), True),
)
"""Cells whose inputs are images, (T, *B, *image, I); their own tests run the contract over them."""

SAME_MACHINERY = (jn.Elman, jn.LSTM, jn.GRU, jn.zoo.ProjectedLSTM, jn.zoo.MinGRU, jn.Zoneout)
"""Cells whose rows together use everything that the engine and the Flax modules have."""


def rows(chosen: Iterable[CellCase]) -> list[Any]:
    """The rows as parameters of a test; CI runs those of other cells on one interpreter only."""
    return [c if isinstance(c.cell, SAME_MACHINERY) else pytest.param(c, marks=pytest.mark.relative) for c in chosen]
