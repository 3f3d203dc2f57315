import numpy as np

from experiments.harness.batches import Shuffled, Windows


def test_an_epoch_shows_each_example_once():
    order = Shuffled(10, 3)
    epoch = np.concatenate([order(5, step) for step in range(3)])
    assert len(set(epoch)) == 9
    assert not np.array_equal(epoch, np.concatenate([order(5, step) for step in range(3, 6)]))
    np.testing.assert_array_equal(order(5, 1), Shuffled(10, 3)(5, 1))
    assert not np.array_equal(order(5, 0), order(6, 0))


def test_a_batch_is_no_larger_than_the_data():
    assert sorted(Shuffled(4, 100)(0, 7)) == [0, 1, 2, 3]


def test_windows_go_on_where_the_last_one_ended():
    places = Windows(1000, 4, 10, 3)
    first, anew = places(1, 3)
    second, on = places(1, 4)
    assert anew
    assert not on
    np.testing.assert_array_equal(second, first + 10)
    assert (first >= 0).all()
    assert (first + 30 < 1000).all()
    assert not np.array_equal(places(1, 0)[0], first)
