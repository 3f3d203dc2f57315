"""DRAW against NumPy in float64: its windows as Gregor et al. write them, and the bound glimpse by glimpse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm as jn
from experiments.models.draw import Draw, read_patch, window, write_patch


@pytest.fixture(autouse=True)
def _ranks_as_users_have_them():
    with jax.numpy_rank_promotion("allow"):
        yield


def filters(raw, size, points):
    """Rows, columns and intensity, filter by filter and pixel by pixel."""
    x, y = ((size + 1) / 2 * (raw[k] + 1) for k in (0, 1))
    variance, stride, gamma = np.exp(raw[2]), (size - 1) / (points - 1) * np.exp(raw[3]), np.exp(raw[4])
    banks = []
    for center in (y, x):
        bank = np.zeros((points, size))
        for i in range(1, points + 1):
            middle = center + (i - points / 2 - 0.5) * stride
            for a in range(1, size + 1):
                bank[i - 1, a - 1] = np.exp(-((a - middle) ** 2) / (2 * variance))
            bank[i - 1] /= bank[i - 1].sum()
        banks.append(bank)
    return *banks, gamma


def test_windows_read_and_write_as_published():
    generator = np.random.default_rng(0)
    raw = generator.normal(size=(4, 5)) * 0.5
    images, patches = generator.normal(size=(4, 9, 9)), generator.normal(size=(4, 3, 3))
    through = window(jnp.asarray(raw, jnp.float32), 9, 3)
    seen = read_patch(jnp.asarray(images, jnp.float32), through)
    painted = write_patch(jnp.asarray(patches, jnp.float32), through)
    for k in range(4):
        rows, columns, gamma = filters(raw[k], 9, 3)
        np.testing.assert_allclose(seen[k], gamma * rows @ images[k] @ columns.T, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(painted[k], rows.T @ patches[k] @ columns / gamma, rtol=1e-4, atol=1e-5)


def test_a_window_far_outside_is_finite():
    through = window(jnp.array([[40.0, -40.0, -5.0, 0.0, 0.0]]), 9, 3)
    assert np.isfinite(read_patch(jnp.ones((1, 9, 9)), through)).all()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(params, c, h, x):
    """The plain LSTM, gates i f g o."""
    gates = np.einsum("bi,igh->bgh", x, params.kernel) + np.einsum("bk,kgh->bgh", h, params.recurrent)
    i, f, g, o = np.moveaxis(gates + params.bias.reshape(4, -1), 1, 0)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return c, sigmoid(o) * np.tanh(c)


def oracle(p, images, noise, read, write):
    """The bound of each image, with all weights in float64."""
    batch, size, _ = images.shape
    (ce, he), (cd, hd) = ([np.repeat(part[None], batch, 0) for part in cell.carry] for cell in (p.encoder, p.decoder))
    canvas, nats = np.repeat(p.canvas[None], batch, 0), np.zeros(batch)
    for epsilon in noise:
        looked = hd @ p.read.kernel + p.read.bias
        inputs = []
        for k in range(batch):
            rows, columns, gamma = filters(looked[k], size, read)
            parts = (images[k], images[k] - sigmoid(canvas[k]))
            inputs.append(np.concatenate([*((gamma * rows @ part @ columns.T).ravel() for part in parts), hd[k]]))
        ce, he = lstm(p.encoder, ce, he, np.array(inputs))
        latent = he @ p.latent.kernel + p.latent.bias
        mean, deviation = latent[:, : noise.shape[-1]], np.exp(latent[:, noise.shape[-1] :])
        nats += 0.5 * (mean**2 + deviation**2 - np.log(deviation**2) - 1).sum(1)
        cd, hd = lstm(p.decoder, cd, hd, mean + deviation * epsilon)
        aimed, patches = (
            hd @ p.write.kernel + p.write.bias,
            (hd @ p.patch.kernel + p.patch.bias).reshape(batch, write, write),
        )
        for k in range(batch):
            rows, columns, gamma = filters(aimed[k], size, write)
            canvas[k] = canvas[k] + rows.T @ patches[k] @ columns / gamma
    shown = sigmoid(canvas)
    return nats - (images * np.log(shown) + (1 - images) * np.log(1 - shown)).sum((1, 2))


@pytest.fixture(scope="module")
def drawn():
    """A network with random numbers in every weight, images, and noise."""
    cell = jn.lstm(4, learn_carry=True)
    network = Draw(cell, cell, size=6, read=2, write=3, latent=2)
    generator = np.random.default_rng(0)
    shapes = jax.eval_shape(network.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: jnp.asarray(0.5 * generator.normal(size=leaf.shape), jnp.float32), shapes)
    images = generator.integers(0, 2, (3, 6, 6)).astype(np.float32)
    return network, params, images, generator.normal(size=(3, 3, 2)).astype(np.float32)


def test_the_bound_is_that_of_the_equations(drawn):
    network, params, images, noise = drawn
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    expected = oracle(wide, images.astype(np.float64), noise.astype(np.float64), network.read, network.write)
    np.testing.assert_allclose(network.bound(params, jnp.asarray(images), jnp.asarray(noise)), expected, rtol=2e-4)


def test_what_it_generates_is_what_the_decoder_paints(drawn):
    network, params, _, noise = drawn
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    c, h = (np.repeat(part[None], 3, 0) for part in wide.decoder.carry)
    canvas = np.repeat(wide.canvas[None], 3, 0)
    shown = network.generate(params, jnp.asarray(noise))
    for t, z in enumerate(noise.astype(np.float64)):
        c, h = lstm(wide.decoder, c, h, z)
        aimed, patches = h @ wide.write.kernel + wide.write.bias, h @ wide.patch.kernel + wide.patch.bias
        for k in range(3):
            rows, columns, gamma = filters(aimed[k], 6, 3)
            canvas[k] = canvas[k] + rows.T @ patches[k].reshape(3, 3) @ columns / gamma
        np.testing.assert_allclose(shown[t], sigmoid(canvas), rtol=1e-3, atol=1e-5)
