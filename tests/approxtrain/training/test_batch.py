"""A batch: which images, how they are shifted and flipped, and that every draw follows from seed and step."""

from __future__ import annotations

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from approxtrain.training.batch import Images, Keys, augmented_batch, channel_statistics, epoch_order, plain_batch

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 8, 6, 3), dtype=np.uint8)
MEAN, STD = channel_statistics(PIXELS)
IMAGES = Images(*map(jnp.asarray, (PIXELS, np.arange(20, dtype=np.int32), MEAN, STD)))


def normal(image: np.ndarray) -> np.ndarray:
    return (image.astype(np.float64) - MEAN) / STD


def views(image: np.ndarray) -> dict[tuple[int, int, bool], np.ndarray]:
    """The 9·9·2 crops of an image that is padded by 4 pixels of the mean colour: (row, column, flipped) → view."""
    height, width, _ = image.shape
    padded = np.pad(normal(image), ((4, 4), (4, 4), (0, 0)))
    crops = {(row, col): padded[row : row + height, col : col + width] for row in range(9) for col in range(9)}
    return {(*at, flip): crop[:, ::-1] if flip else crop for at, crop in crops.items() for flip in (False, True)}


@pytest.fixture(name="drawn", scope="module")
def _drawn() -> list[tuple[int, int, bool]]:
    """Which view each image of a large batch is."""
    index = np.arange(4000, dtype=np.int32) % len(PIXELS)
    batch = np.asarray(jax.jit(augmented_batch)(IMAGES, jnp.asarray(index), jax.random.key(1)))
    found: list[list[tuple[int, int, bool]]] = [[] for _ in index]
    for number, image in enumerate(PIXELS):
        mine = np.flatnonzero(index == number)
        for at, view in views(image).items():
            for hit in mine[np.abs(batch[mine] - view).max((1, 2, 3)) < 1e-4]:
                found[hit].append(at)
    assert [len(hits) for hits in found] == [1] * len(index)  # each is one of the views, and no other
    return [hits[0] for hits in found]


def test_an_augmented_image_is_a_crop_of_the_padded_image_or_its_mirror_image(drawn):
    assert len(drawn) == 4000


def test_every_shift_and_flip_is_drawn_about_equally_often(drawn):
    counts = Counter(drawn)
    assert len(counts) == 9 * 9 * 2
    expected = len(drawn) / 162
    # the sum of squares is chi-squared with 161 degrees of freedom: mean 161, standard deviation 18
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 161 + 5 * 18


def test_a_plain_batch_is_the_chosen_images_normalised():
    index = np.array([7, 0, 7], np.int32)
    batch = plain_batch(IMAGES, jnp.asarray(index))
    assert (batch.shape, batch.dtype) == ((3, 8, 6, 3), jnp.float32)
    np.testing.assert_allclose(batch, normal(PIXELS[index]), atol=1e-5)


def test_channel_statistics_are_those_of_float64():
    pixels = np.concatenate([PIXELS, np.full((50, 8, 6, 3), 251, np.uint8)])
    mean, std = channel_statistics(pixels)
    assert (mean.dtype, std.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(mean, pixels.astype(np.float64).mean((0, 1, 2)), rtol=1e-7)
    np.testing.assert_allclose(std, pixels.astype(np.float64).std((0, 1, 2)), rtol=1e-7)


def test_a_channel_of_one_value_does_not_divide_by_zero():
    assert channel_statistics(np.full((2, 4, 4, 1), 7, np.uint8))[1] > 0


def test_the_order_of_an_epoch_is_a_permutation_of_its_own():
    def order(seed: int, epoch: int) -> tuple[int, ...]:
        (found,) = epoch_order(Keys.of([seed]).order, jnp.int32(epoch), 50)
        assert found.dtype == jnp.int32
        return tuple(np.asarray(found).tolist())

    orders = [order(seed, epoch) for seed in (0, 1) for epoch in (1, 2)]
    assert [sorted(each) for each in orders] == [list(range(50))] * 4
    assert len(set(orders)) == 4
    assert order(1, 2) == orders[-1]


def test_a_seed_gives_four_streams_and_always_the_same():
    def data(seed: int) -> list[tuple[int, ...]]:
        return [tuple(np.asarray(jax.random.key_data(key)).tolist()) for (key,) in Keys.of([seed])]

    assert data(3) == data(3)
    assert len({*data(3), *data(4)}) == 8


def test_the_batch_of_a_step_is_the_next_part_of_the_order_and_a_pure_function_of_seed_and_step(assemble, pocket):
    def batch(step: int, seed: int = 0, augment: bool = True) -> tuple[bytes, list[int]]:
        bench = assemble(pocket, {"name": "full"}, seed=seed, augment=augment)
        keys = Keys(*(key for (key,) in bench.dispatch.keys))
        x, labels, _ = bench.dispatch.inputs(jnp.int32(step), bench.images, order, keys)
        return np.asarray(x).tobytes(), np.asarray(labels).tolist()

    bench = assemble(pocket, {"name": "full"})
    order, labels = bench.order[0], np.asarray(bench.images.labels)
    assert batch(7)[1] == labels[np.asarray(order)[32:64]].tolist()  # six steps an epoch: the second batch
    assert batch(7) == batch(7)
    assert len({batch(7)[0], batch(13)[0], batch(7, seed=1)[0]}) == 3  # the same images, shifted otherwise
    assert batch(7, augment=False) == batch(13, augment=False)
