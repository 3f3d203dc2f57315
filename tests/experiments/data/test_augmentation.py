"""Crops and mirror images."""

import numpy as np

from experiments.data.augmentation import crop_and_flip


def test_each_image_is_a_crop_of_the_padded_one_and_half_are_mirrored():
    images = np.random.default_rng(0).normal(size=(200, 16, 8, 2)).astype(np.float32)
    got = crop_and_flip(images, np.random.default_rng(1))
    assert got.shape == images.shape
    assert got.dtype == images.dtype
    seen, mirrored = set(), 0
    for image, made in zip(images, got, strict=True):
        padded = np.zeros((20, 10, 2), np.float32)
        padded[2:18, 1:9] = image
        places = [
            (top, left, flip)
            for top in range(5)
            for left in range(3)
            for flip in (False, True)
            if np.array_equal(padded[top : top + 16, left : left + 8][:, :: -1 if flip else 1], made)
        ]
        assert len(places) == 1
        seen.add(places[0][:2])
        mirrored += places[0][2]
    assert len(seen) == 15
    assert 70 < mirrored < 130


def test_the_same_numbers_draw_the_same():
    images = np.random.default_rng(0).normal(size=(5, 16, 16, 1))
    one, two, three = (crop_and_flip(images, np.random.default_rng((0, s))) for s in (7, 7, 8))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, three)
