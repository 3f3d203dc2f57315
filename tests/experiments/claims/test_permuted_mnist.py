"""The sequences of permuted MNIST, means of squares of pixels in one order, and the picture of its gradients."""

import numpy as np

from experiments.claims.permuted_mnist import ARMS, pictures, sequences


def test_each_step_is_the_mean_of_one_square_of_pixels():
    images = np.random.default_rng(0).random((3, 8, 8))
    read = sequences(images, 2)
    corners = [(2 * row, 2 * column) for row in range(4) for column in range(4)]
    squares = [[image[y : y + 2, x : x + 2].sum() / 4 for y, x in corners] for image in images]
    assert read.shape == (3, 16)
    np.testing.assert_allclose(np.sort(read, axis=1), np.sort(squares, axis=1))
    assert not np.allclose(read, squares)  # in another order


def test_every_set_of_images_gets_the_same_order():
    positions = np.arange(64.0).reshape(1, 8, 8)
    np.testing.assert_array_equal(sequences(positions, 1), sequences(np.repeat(positions, 2, 0), 1)[1:])
    np.testing.assert_array_equal(np.sort(sequences(positions, 1)[0]), np.arange(64))


def test_the_picture_of_gradients_has_a_line_an_arm_before_training_and_after_it():
    norms = {arm: {"before": np.arange(1.0, 5.0) + k, "after": np.arange(5.0, 9.0) + k} for k, arm in enumerate(ARMS)}
    figure = pictures([], norms)["gradient_norms.png"]
    for panel, when in zip(figure.axes, ("before", "after"), strict=True):
        assert panel.get_title() == f"{when} training"
        assert panel.get_yscale() == "log"
        assert [line.get_label() for line in panel.lines] == list(ARMS)
        for line, arm in zip(panel.lines, ARMS, strict=True):
            np.testing.assert_array_equal(line.get_ydata(), norms[arm][when])
    assert pictures([], {}) == {}
