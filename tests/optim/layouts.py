"""What each weight of the table is, written out by hand."""

BOTH = {"kernel": (0, 2), "recurrent": (0, 2)}
UNGATED = {"kernel": (0, 1), "recurrent": (0, 1)}

KERNELS = {
    "elman": UNGATED,
    "lstm": BOTH,
    "gru": BOTH,
    "ln_rnn": UNGATED,
    "ln_lstm": BOTH,
    "ln_gru": BOTH,
    "rms_lstm": BOTH,
    "rms_gru": BOTH,
    "bn_lstm": BOTH,
    "bn_gru_pooled": BOTH,
    "ln_lstm_per_gate_learned_carry": BOTH,
    "elman_everywhere": UNGATED,
    "lstm_summed_per_gate": BOTH,
    "bn_lstm_summed": BOTH,
    "gru_candidate_summed": BOTH,
    "dreamer_v3_gru": BOTH,
    "dreamer_v3_block_gru": {**UNGATED, "block": (1, 2), "mix": (0, 1), "gates": (1, 3)},
    "norm_prop_lstm": BOTH,
    "assorted_time_lstm": BOTH,
    "ln_projected_lstm": {**BOTH, "projection": (0, 1)},
    "bn_reset_before_gru": BOTH,
    "ln_peephole_lstm": BOTH,
    "ln_coupled_lstm": BOTH,
    "indrnn_batch_norm": {"kernel": (0, 1)},
    "ligru": BOTH,
    "ln_mgu": BOTH,
    "rms_mgu_recurrent": BOTH,
    "bn_mgu_none": BOTH,
    "ln_mi_rnn": UNGATED,
    "ln_mi_lstm": BOTH,
    "ln_mi_gru": BOTH,
    "ln_mut1": BOTH,
    "bn_mut2": BOTH,
    "ln_mut3": BOTH,
    "bn_recurrent_highway": {"kernel": (0, 2), "recurrent": (1, 3)},
    "min_gru": {"kernel": (0, 2)},
    "min_lstm_batch_norm": {"kernel": (0, 2)},
    "rg_lru": {"kernel": (1, 3)},
    "ln_rg_lru": {"kernel": (1, 3)},
    "rg_lru_batch_norm": {"kernel": (1, 3)},
    "slstm": {"kernel": (0, 2), "recurrent": (1, 3)},
    "zoneout_bn_lstm": BOTH,
    "recurrent_dropout_ln_gru": BOTH,
    "gn_lstm_mixed": BOTH,
    "skeleton": UNGATED,
    "gated_skeleton": BOTH,
}
"""The kernels of each cell with the axes of inputs and outputs of their matrices; all else is a vector."""

VECTORS = {
    "bias",
    "recurrent_bias",
    "gates_bias",
    "peephole",
    "decay_logit",
    "recurrent",  # of an IndRNN
    *(f"integration/{name}" for name in ("alpha", "beta1", "beta2")),
    *(f"scale/{site}" for site in ("input", "recurrent", "cell")),
    *(
        f"norm/{site}/{name}"
        for site in ("input", "recurrent", "cell", "summed", "projection")
        for name in ("scale", "bias")
    ),
    *(f"carry/{entry}" for entry in ("c", "h")),
}
"""The names of all other weights of these cells."""

VECTORS_OF_NORMS = {"scale", "bias", "alpha", "threshold", "learned_epsilon", "slope", "learned_sigma"}

NORMS_WITH_KERNELS = {"ada_layer_norm", "ada_layer_norm_gate", "cosine_norm"}
