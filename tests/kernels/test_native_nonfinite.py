"""How far a NaN or an infinity spreads: what docs/method.md says of it, sentence by sentence.

A result *sees* an entry if the definition has a product of the entry with something that is not the border of zeros.
"""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from approxtrain_kernels import canonical, conv_shape, native, weight_gradient
from approxtrain_kernels.methods.full import Full
from approxtrain_kernels.methods.pooled import Pooled
from approxtrain_kernels.native.conv import Conv
from approxtrain_kernels.native.wgrad import Wgrad

pytestmark = [
    pytest.mark.gate,
    pytest.mark.skipif(not native.available(), reason="no code of our own for this processor"),
]

LAYERS = {
    "16 channels": conv_shape((2, 6, 6, 16), 16, (3, 3)),
    "many channels": conv_shape((2, 4, 4, 160), 72, (3, 3)),
    "few channels": conv_shape((2, 7, 7, 3), 8, (3, 3)),
    "few channels, stride 2": conv_shape((2, 8, 8, 16), 32, (3, 3), (2, 2)),
    "many channels, stride 2": conv_shape((2, 4, 4, 128), 128, (3, 3), (2, 2)),
}
VALUES = [np.nan, np.inf]
rng = np.random.default_rng(0)


def operands(shape, kind):
    sizes = {"x": shape.x_shape, "w": shape.w_shape, "dy": shape.y_shape}
    names = {"forward": ("x", "w"), "dgrad": ("dy", "w")}.get(kind, ("x", "dy"))
    return [rng.standard_normal(sizes[name], np.float32) for name in names]


def places(size):
    """Corners and some places within."""
    return [(0,) * len(size), tuple(n - 1 for n in size), *(tuple(rng.integers(0, n) for n in size) for _ in range(3))]


def sees(kind, shape, which, place):
    """Which results see the entry, by counting products: of ones with zeros that have a one in its place."""
    a, b = (np.ones_like(operand, dtype=np.float64) for operand in operands(shape, kind))
    only = (a, b)[which]
    only[...] = 0
    only[place] = 1
    if kind == "wgrad":
        return Full().oracle(a, b, shape) > 0
    return np.asarray(getattr(canonical, kind)(a.astype(np.float32), b.astype(np.float32), shape)) > 0.5


def spread(run, shape, kind, which, place, value):
    """Which results are not finite if one entry is `value`."""
    pair = operands(shape, kind)
    pair[which][place] = value
    return ~np.isfinite(np.asarray(run(*map(jnp.asarray, pair), shape)))


def takes_each_tap_alone(kind, shape):
    if kind == "wgrad":
        return Wgrad(shape, 2, 16).by_tap
    tiling = Conv(shape, 2, 16, kind == "dgrad")
    return not tiling.copies


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("kind", ["forward", "dgrad", "wgrad"])
def test_in_an_image_it_reaches_what_sees_it_and_nothing_else(kind, layer):
    """x of a forward and of a wgrad, dO of a dgrad: with XLA's convolutions as with ours."""
    shape = LAYERS[layer]
    for value, place in zip(VALUES * 3, places(operands(shape, kind)[0].shape), strict=False):
        expected = sees(kind, shape, 0, place)
        for of in (native, canonical):
            np.testing.assert_array_equal(spread(getattr(of, kind), shape, kind, 0, place, value), expected)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("kind", ["forward", "dgrad", "wgrad"])
def test_in_w_or_in_the_do_of_a_wgrad_it_may_also_reach_what_multiplies_it_by_the_border(kind, layer):
    """It reaches what sees it, and no more than with XLA's convolutions; nothing else where each tap is taken alone."""
    shape = LAYERS[layer]
    for value, place in zip(VALUES * 3, places(operands(shape, kind)[1].shape), strict=False):
        expected = sees(kind, shape, 1, place)
        ours = spread(getattr(native, kind), shape, kind, 1, place, value)
        assert (ours >= expected).all()
        assert (ours <= spread(getattr(canonical, kind), shape, kind, 1, place, value)).all()
        assert not takes_each_tap_alone(kind, shape) or (ours == expected).all()
        assert not np.delete(ours, place[-1] if kind != "dgrad" else place[2], axis=-1).any()  # its channel alone


def test_both_kinds_of_layers_are_among_these():
    for kind in ("forward", "dgrad", "wgrad"):
        assert {takes_each_tap_alone(kind, shape) for shape in LAYERS.values()} == {True, False}


def test_a_nan_that_reaches_a_result_makes_it_nan_and_an_infinity_makes_it_infinite_or_nan():
    shape = LAYERS["few channels"]
    x, w = operands(shape, "forward")
    w[0, 0, 1, 2] = np.inf  # the tap above and left: of the first row and column it sees the border
    y = np.asarray(native.forward(jnp.asarray(x), jnp.asarray(w), shape))[..., 2]
    assert np.isnan(y[:, 0]).all()
    assert np.isnan(y[:, :, 0]).all()
    assert np.isinf(y[:, 1:, 1:]).all()
    w[0, 0, 1, 2] = np.nan
    assert np.isnan(np.asarray(native.forward(jnp.asarray(x), jnp.asarray(w), shape))[..., 2]).all()


@pytest.mark.parametrize("layer", ["16 channels", "few channels"])
def test_pooled_spreads_it_to_the_taps_whose_boxes_see_it(layer):
    shape = conv_shape((2, 6, 6, LAYERS[layer].in_channels), 8, (3, 3))
    run = partial(native.wgrad, r=2)
    for which in (0, 1):
        for value, place in zip(VALUES * 3, places(operands(shape, "wgrad")[which].shape), strict=False):
            a, b = (np.ones_like(operand, dtype=np.float64) for operand in operands(shape, "wgrad"))
            only = (a, b)[which]
            only[...] = 0
            only[place] = 1
            expected = Pooled(2).oracle(a, b, shape) > 0
            ours = spread(run, shape, "wgrad", which, place, value)
            assert (ours >= expected).all()
            assert (which == 1 and layer == "few channels") or (ours == expected).all()


def largest_at(shape, place):
    """x and a dO whose largest entry of each plane is at `place`."""
    x, dy = operands(shape, "wgrad")
    dy[:, place[0], place[1]] = 100
    return x, dy


@pytest.mark.parametrize("gather", [True, False])
@pytest.mark.parametrize("value", VALUES)
def test_approx_spreads_it_to_the_taps_within_the_image_at_the_entry_that_is_kept(value, gather):
    """A NaN is never the entry that is kept, an infinity is: the plane's sum carries either."""
    shape = LAYERS["16 channels"]
    x, dy = largest_at(shape, (0, 5))  # the upper right corner: taps of the first row and the last column are outside
    if np.isinf(value):
        dy[1, 0, 5, 3] = value
    else:
        dy[1, 4, 2, 3] = value
    dw = np.asarray(native.topk_wgrad(jnp.asarray(x), jnp.asarray(dy), shape, gather=gather))
    reached = np.zeros(shape.w_shape, bool)
    reached[1:, :2, :, 3] = True
    np.testing.assert_array_equal(~np.isfinite(dw), reached)


def test_approx_hides_it_where_the_kept_entry_sees_nothing_but_padding():
    shape = conv_shape((2, 6, 6, 16), 8, (1, 1), padding=((2, 2), (2, 2)))
    x, dy = largest_at(shape, (0, 0))  # its patch of 1×1 is padding
    dy[1, 4, 4, 3] = np.nan
    for gather in (True, False):
        ours = np.asarray(native.topk_wgrad(jnp.asarray(x), jnp.asarray(dy), shape, gather=gather))
        assert np.isfinite(ours).all()
    run = partial(weight_gradient, kernel_size=(1, 1), padding=shape.padding, method="approx", implementation="xla")
    assert np.isnan(np.asarray(run(x, dy))[..., 3]).all()


def test_approx_with_more_entries_spreads_a_nan_to_every_tap_of_its_channel():
    """It is XLA's, whose patches have the border of zeros; there a NaN counts as the largest entry."""
    shape = LAYERS["16 channels"]
    x, dy = largest_at(shape, (0, 5))
    dy[1, 4, 2, 3] = np.nan
    dw = np.asarray(weight_gradient(x, dy, kernel_size=(3, 3), method="approx", k=2))
    assert np.isnan(dw[..., 3]).all()
    assert np.isfinite(np.delete(dw, 3, axis=-1)).all()


def test_of_an_image_approx_spreads_what_its_patches_read_and_in_its_dense_form_what_any_output_sees():
    shape = LAYERS["16 channels"]
    x, dy = largest_at(shape, (1, 1))
    x[1, 5, 5, 2] = np.nan
    x, dy = jnp.asarray(x), jnp.asarray(dy)
    assert np.isfinite(np.asarray(native.topk_wgrad(x, dy, shape, gather=True))).all()
    dense = np.isnan(np.asarray(native.topk_wgrad(x, dy, shape, gather=False)))
    np.testing.assert_array_equal(dense, sees("wgrad", shape, 0, (1, 5, 5, 2)))
