"""A deep Haiku network with resets: ``hk.ResetCore`` around ``hk.DeepRNN`` or around cores with skip connections."""

import jax
import numpy as np
import pytest

import jaxnorm as jn
from jaxnorm import convert
from tests.ports.tools import drawn, drawn_like, equal
from tests.tools.marks import mostly_heavy
from tests.tools.peers import import_peer, lenient

INPUTS, WIDTHS, STEPS, BATCH = 3, (4, 5, 4), 6, 2
NAMES = ("lstm", "gru", "lstm_1")


def original(hk, *, skip):
    def network(xs, resets, state):
        cores = [kind(width) for kind, width in zip((hk.LSTM, hk.GRU, hk.LSTM), WIDTHS, strict=True)]
        core = hk.ResetCore(hk.deep_rnn_with_skip_connections(cores) if skip else hk.DeepRNN(cores))
        return hk.dynamic_unroll(core, (xs, resets), state)

    return hk.without_apply_rng(hk.transform(network))


# The port.


def port(params, *, skip):
    found = convert.haiku.load(params, name=NAMES, skip_connections=skip)
    run = jn.skip_stack if skip else jn.stack
    return lambda xs, resets, state: run(found.spec, found.params, xs, reset=resets, carry=state)


@pytest.mark.parametrize("skip", mostly_heavy([True, False]))
def test_outputs_and_states_with_resets(rng, skip):
    hk = import_peer("haiku", "bench")
    xs, resets = drawn(rng, STEPS, BATCH, INPUTS), rng.random((STEPS, BATCH)) < 0.3
    assert resets[1:].any()
    states = [(drawn(rng, BATCH, width), drawn(rng, BATCH, width)) for width in WIDTHS]
    state = (hk.LSTMState(*states[0]), states[1][0], hk.LSTMState(*states[2]))
    with lenient():
        network = original(hk, skip=skip)
        params = drawn_like(jax.eval_shape(network.init, jax.random.key(0), xs, resets, state), rng)
        outputs, (first, second, third) = jax.jit(network.apply)(params, xs, resets, state)
    out = jax.jit(port(params, skip=skip))(xs, resets, state)
    equal(out.outputs, outputs)
    equal([(out.carry[k].h, out.carry[k].c) for k in (0, 2)], [tuple(first), tuple(third)])
    equal(out.carry[1].h, second)
    assert out.outputs.shape == (STEPS, BATCH, np.sum(WIDTHS) if skip else WIDTHS[-1])
