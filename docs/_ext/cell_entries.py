"""What the table of cells says that cannot be derived: one entry for each public cell and preset, in the order of the page.

An entry is a cell and words. CellNorms, state, products and reductions come from the cell itself; see ``cell_table.py``, which
writes the page: ``python docs/_ext/cell_table.py``.
"""

# ruff: noqa: E501

from typing import Any, NamedTuple

import jaxnorm as jn

H = 8


class Entry(NamedTuple):
    """A row of the table. Mathematics is written in LaTeX without dollars; no text may hold a vertical bar."""

    name: str
    """The public name of the cell or preset."""
    cell: Any
    """A cell with H features, made by it; with as many as there are inputs where it adds x to h."""
    equation: str
    """What is peculiar to it; v are the pre-activations of the gates."""
    when: str
    paper: str


LSTMS = (
    Entry("LSTM", jn.LSTM(H), r"c_t = f c_{t-1} + i g, \; h_t = o \tanh(c_t)", "the cell with free sites", "Hochreiter, Schmidhuber 1997"),
    Entry("lstm", jn.lstm(H), r"v = x W + h U + b", "where no normalization is needed", "Gers, Schmidhuber, Cummins 2000"),
    Entry("ln_lstm", jn.ln_lstm(H), r"v = LN(x W) + LN(h U) + b", "the first to try", "Ba, Kiros, Hinton 2016"),
    Entry("rms_lstm", jn.rms_lstm(H), r"v = RMS(x W) + RMS(h U) + b", "like `ln_lstm`, cheaper", "Zhang, Sennrich 2019"),
    Entry("kiros_ln_lstm", jn.zoo.kiros_ln_lstm(H), r"v = LN(x W + b) + LN(h U) + b", "results of the paper's Theano code", "Ba, Kiros, Hinton 2016, code"),
    Entry("haste_ln_lstm", jn.zoo.haste_ln_lstm(H), r"v = LN(x W) + LN(h U) + b", "weights from Haste", "Haste 2020"),
    Entry("tfa_ln_lstm", jn.zoo.tfa_ln_lstm(H), r"v = LN(x W) + LN(h U) + b, \; c_t \leftarrow LN(c_t)", "weights from TensorFlow Addons", "TensorFlow Addons 2019"),
    Entry("fastrnns_ln_lstm", jn.zoo.fastrnns_ln_lstm(H), r"v = LN(x W) + LN(h U), \; c_t \leftarrow LN(c_t)", "weights from PyTorch's example", "PyTorch 2018"),
    Entry("draw_ln_lstm", jn.zoo.draw_ln_lstm(H), r"v = x W + h U + b, \; h_t = o \tanh(LN(c_t))", "the least normalization", "Ba, Kiros, Hinton 2016, DRAW"),
    Entry("contrib_ln_lstm", jn.zoo.contrib_ln_lstm(H), r"v_k = LN(x W_k + h U_k), \; c_t \leftarrow LN(c_t)", "weights from TensorFlow 1", "TensorFlow 1, 2016"),
    Entry("sketch_rnn_ln_lstm", jn.zoo.sketch_rnn_ln_lstm(H), r"v_k = LN(x W_k + h U_k)", "sketch-rnn, HyperNetworks", "Ha, Dai, Le 2016"),
    Entry("sonnet_ln_lstm", jn.zoo.sonnet_ln_lstm(H), r"v = LN(x W + h U) + b", "weights from Sonnet 1; one norm a step", "Sonnet 2017"),
    Entry("praxis_ln_lstm", jn.zoo.praxis_ln_lstm(H), r"v_k = LN(x W_k + h U_k) + b_k, \; c_t \in [-10, 10]", "weights from Praxis or Lingvo", "Praxis 2022"),
    Entry("axlearn_ln_lstm", jn.zoo.axlearn_ln_lstm(H), r"v_k = LN(x W_k + h U_k)", "weights from AXLearn", "AXLearn 2023"),
    Entry("bn_lstm", jn.bn_lstm(H, max_steps=2), r"v = BN(x W) + BN(h U) + b", "large batches, bounded length", "Cooijmans et al. 2017"),
    Entry("sonnet_bn_lstm", jn.zoo.sonnet_bn_lstm(H), r"v = BN(x W) + BN(h U) + b", "weights from Sonnet 1", "Sonnet 2017"),
    Entry("laurent_bn_lstm", jn.zoo.laurent_bn_lstm(H, max_steps=2), r"v = BN(x W) + h U", "no norm in the loop", "Laurent et al. 2015"),
    Entry("weight_norm_lstm", jn.zoo.weight_norm_lstm(H), r"v = g_x x W / \lVert W \rVert + g_h h U / \lVert U \rVert + b", "no statistics, no cost in a step", "Salimans, Kingma 2016"),
    Entry("bounded_weight_norm_lstm", jn.zoo.bounded_weight_norm_lstm(H), r"v = \rho_x x W / \lVert W \rVert + \rho_h h U / \lVert U \rVert + b", "weights whose size must not grow", "Hoffer et al. 2018"),
    Entry("NormPropLSTM", jn.zoo.NormPropLSTM(H, input_scale=0.5), r"h_t = o \tanh(g_c c_t / \sqrt{V_c}) / \sqrt{V_h}", "normalized inputs; no statistics", "Laurent, Ballas, Vincent 2017"),
    Entry("norm_prop_lstm", jn.zoo.norm_prop_lstm(H), r"v = g_x x W / \lVert W \rVert + g_h h U / \lVert U \rVert + b", "the same with the paper's gains", "Laurent, Ballas, Vincent 2017"),
    Entry("AssortedTimeLSTM", jn.zoo.AssortedTimeLSTM(H), r"v = ATN(x W + b_x) + ATN(h U + b_h)", "the size of a step carries meaning", "Pospisil, Zadorozhnyy, Ye 2022"),
    Entry("assorted_time_lstm", jn.zoo.assorted_time_lstm(H), r"v = ATN(x W + b_x) + ATN(h U + b_h)", "the same with the code's initial values", "Pospisil, Zadorozhnyy, Ye 2022"),
    Entry("PeepholeLSTM", jn.zoo.PeepholeLSTM(H), r"i, f \mathrel{+}= p \odot c_{t-1}, \; o \mathrel{+}= p_o \odot c_t", "exact timing", "Gers, Schraudolph, Schmidhuber 2002"),
    Entry("CoupledLSTM", jn.zoo.CoupledLSTM(H), r"f = 1 - i", "one gate fewer", "Greff et al. 2017"),
    Entry("ConvLSTM", jn.zoo.ConvLSTM(H, image_shape=(4, 4)), r"v = x * W + h * U + b \text{ (convolutions)}", "sequences of images; weights from Keras, Flax, Haiku", "Shi et al. 2015"),
    Entry("ProjectedLSTM", jn.zoo.ProjectedLSTM(H, 4), r"h_t = (o \tanh(c_t)) P", "many cells, few outputs", "Sak, Senior, Beaufays 2014"),
)  # fmt: skip

GRUS = (
    Entry("GRU", jn.GRU(H), r"n = \tanh(n_x + r \odot n_h)", "the cell with free sites", "Cho et al. 2014"),
    Entry("gru", jn.gru(H), r"r, z = x W + h U + b + b_h", "where no normalization is needed", "Cho et al. 2014"),
    Entry("ln_gru", jn.ln_gru(H), r"r, z = LN(x W) + LN(h U), \; n = \tanh(LN(x W_n) + r \odot LN(h U_n))", "the first to try", "Ba, Kiros, Hinton 2016"),
    Entry("rms_gru", jn.rms_gru(H), r"r, z = RMS(x W) + RMS(h U)", "like `ln_gru`, cheaper", "Zhang, Sennrich 2019"),
    Entry("kiros_ln_gru", jn.zoo.kiros_ln_gru(H), r"r, z = LN(x W + b) + LN(h U)", "results of the paper's Theano code", "Ba, Kiros, Hinton 2016, code"),
    Entry("haste_ln_gru", jn.zoo.haste_ln_gru(H), r"r, z, n_x + n_h: LN(x W) + b, \; LN(h U) + b_h", "weights from Haste", "Haste 2020"),
    Entry("dreamer_gru", jn.zoo.dreamer_gru(H), r"r, z, n' = LN(x W + h U), \; n = \tanh(r \odot n')", "the older Dreamers", "Hafner et al. 2021"),
    Entry("ConcatenatedGRU", jn.zoo.ConcatenatedGRU(H), r"r, z, n' = N([x, h]) K + b, \; n = \tanh(r \odot n')", "x and h of one size", "Hafner et al. 2023"),
    Entry("dreamer_v3_gru", jn.zoo.dreamer_v3_gru(H), r"r, z, n' = RMS([x, h]) K + b", "DreamerV3's generic GRU", "Hafner et al. 2023"),
    Entry("BlockGRU", jn.zoo.BlockGRU(H), r"u = \phi(N(x W + e M + [h^{(k)} B_k]_k)), \; v^{(k)} = u^{(k)} G_k", "very wide states", "Hafner et al. 2023"),
    Entry("dreamer_v3_block_gru", jn.zoo.dreamer_v3_block_gru(H), r"e = \phi(RMS(h U)), \; u = \phi(RMS(\ldots))", "DreamerV3's world model", "Hafner et al. 2023"),
    Entry("MGU", jn.zoo.MGU(H), r"n = \tanh(n_x + f \odot n_h), \; h_t = (1 - f) n + f h_{t-1}", "one gate fewer; weights from Flax", "Zhou et al. 2016"),
    Entry("mgu", jn.zoo.mgu(H), r"n = \tanh(x W_n + (f \odot h) U_n + b_n), \; h_t = (1 - f) h_{t-1} + f n", "the paper's form", "Zhou et al. 2016"),
    Entry("ResetBeforeGRU", jn.zoo.ResetBeforeGRU(H), r"n = \tanh(x W_n + (r \odot h) U_n + b_n)", "the original form; weights from Haiku", "Cho et al. 2014"),
)  # fmt: skip

OTHERS = (
    Entry("MIGRU", jn.zoo.MIGRU(H), r"n = \tanh(\alpha \odot x W_n \odot (r \odot h) U_n + \ldots)", "characters; products of input and state", "Wu et al. 2016"),
    Entry("MILSTM", jn.zoo.MILSTM(H), r"v = \alpha \odot x W \odot h U + \beta_1 \odot h U + \beta_2 \odot x W + b", "characters; products of input and state", "Wu et al. 2016"),
    Entry("MIRNN", jn.zoo.MIRNN(H), r"h_t = \tanh(\alpha \odot x W \odot h U + \beta_1 \odot h U + \beta_2 \odot x W + b)", "short memory, few weights", "Wu et al. 2016"),
    Entry("MUT1", jn.zoo.MUT1(H, raw_input="projected"), r"h_t = z \odot \tanh((r \odot h) U + \tanh(x') + b) + (1 - z) \odot h", "found by search; z sees the input only", "Jozefowicz, Zaremba, Sutskever 2015"),
    Entry("MUT2", jn.zoo.MUT2(H, raw_input="projected"), r"r = \sigma(x' + h U_r + b_r)", "found by search", "Jozefowicz, Zaremba, Sutskever 2015"),
    Entry("MUT3", jn.zoo.MUT3(H), r"z = \sigma(x W_z + \tanh(h) U_z + b_z)", "found by search; z sees tanh of the state", "Jozefowicz, Zaremba, Sutskever 2015"),
    Entry("MinGRU", jn.zoo.MinGRU(H), r"h_t = (1 - z) h_{t-1} + z \tilde h, \; z = \sigma(x W_z)", "long sequences, all steps at once", "Feng et al. 2024"),
    Entry("MinLSTM", jn.zoo.MinLSTM(H), r"h_t = f' h_{t-1} + i' \tilde h, \; f' = f / (f + i)", "long sequences, all steps at once", "Feng et al. 2024"),
    Entry("RGLRU", jn.zoo.RGLRU(5), r"h_t = a_t h_{t-1} + \sqrt{1 - a_t^2} \, i x, \; a_t = \sigma(\Lambda)^{c r}", "long sequences, all steps at once; language models", "De et al. 2024"),
    Entry("SLSTM", jn.zoo.SLSTM(H, heads=2), r"c_t = f c_{t-1} + i z, \; n_t = f n_{t-1} + i, \; h_t = o c_t / n_t", "exponential gates, block-diagonal heads", "Beck et al. 2024"),
    Entry("LiGRU", jn.zoo.LiGRU(H), r"h_t = z h_{t-1} + (1 - z) \phi(x W_n + h U_n + b_n)", "speech; no reset gate", "Ravanelli et al. 2018"),
    Entry("ligru", jn.zoo.ligru(H), r"z, n = BN(x W) + h U", "speech; no norm in the loop", "Ravanelli et al. 2018"),
    Entry("IndRNN", jn.zoo.IndRNN(H), r"h_t = \phi(x W + u \odot h + b)", "very long or deep stacks; no product in the loop", "Li et al. 2018"),
    Entry("Elman", jn.Elman(H), r"h_t = \phi(x W + h U + b)", "the cell with free sites", "Elman 1990"),
    Entry("elman", jn.elman(H), r"h_t = \tanh(x W + h U + b)", "short memory", "Elman 1990"),
    Entry("ln_rnn", jn.ln_rnn(H), r"h_t = \tanh(LN(x W + h U))", "the paper's normalized plain network", "Ba, Kiros, Hinton 2016"),
    Entry("RecurrentHighway", jn.zoo.RecurrentHighway(H, 3), r"s_l = (\tanh(h_l) - s_{l-1}) \odot \sigma(t_l) + s_{l-1}, \; l = 1, \ldots, L", "depth within a step; characters and words", "Zilly et al. 2016"),
    Entry("Zoneout", jn.Zoneout(jn.lstm(H), rate=0.05, cell_rate=0.5, deterministic=True), r"s_t = m s'_t + (1 - m) s_{t-1}", "any cell; against overfitting of the state", "Krueger et al. 2017"),
    Entry("RecurrentDropout", jn.RecurrentDropout(jn.lstm(H), rate=0.25, deterministic=True), r"c_t = f c_{t-1} + i (m \odot g)", "LSTM, GRU; memory is never dropped", "Semeniuta, Severyn, Barth 2016"),
    Entry("VariationalDropout", jn.VariationalDropout(jn.lstm(H), input_rate=0.3, rate=0.3, deterministic=True), r"v = (m_x \odot x) W + (m_h \odot h) U + b", "any cell; the same mask at all steps", "Gal, Ghahramani 2016"),
    Entry("DropConnect", jn.DropConnect(jn.lstm(H), rate=0.5, deterministic=True), r"U \leftarrow M \odot U / (1 - p)", "any cell; no cost in a step", "Merity, Keskar, Socher 2018"),
    Entry("Reparametrized", jn.Reparametrized(jn.lstm(H), jn.WeightNorm()), r"W \leftarrow w(W)", "any cell with normalized kernels", "Salimans, Kingma 2016"),
)  # fmt: skip

ENTRIES = LSTMS + GRUS + OTHERS
