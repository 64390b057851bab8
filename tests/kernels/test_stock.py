"""Against the convolution and gradients that jax itself gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from approxtrain_kernels import canonical, conv, conv_shape

pytestmark = pytest.mark.both

CASES = {
    "stem": (4, 32, 3, 16, 3, 1),
    "3x3": (4, 16, 8, 8, 3, 1),
    "3x3 stride 2": (4, 16, 8, 16, 3, 2),
    "3x3 stride 2, odd": (4, 9, 8, 8, 3, 2),
    "5x5": (4, 16, 8, 8, 5, 1),
    "1x1 stride 2": (4, 16, 8, 8, 1, 2),
}


def values(n, size, ci, co, k, stride):
    shape = conv_shape((n, size, size, ci), co, (k, k), (stride, stride))
    rng = np.random.default_rng(1)
    x, w, dy = (jnp.asarray(rng.standard_normal(s), jnp.float32) for s in (shape.x_shape, shape.w_shape, shape.y_shape))
    return shape, x, w, dy


def stock(shape):
    return lambda x, w: lax.conv_general_dilated(
        x, w, shape.strides, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def pull(function, x, w, dy):
    y, back = jax.vjp(function, x, w)
    return y, *back(dy)


def double(shape, x, w, dy):
    """The stock convolution and its gradients in float64."""
    with jax.enable_x64(True):
        exact = pull(stock(shape), *(jnp.asarray(np.asarray(a), jnp.float64) for a in (x, w, dy)))
        return [np.asarray(a) for a in exact]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_canonical_form_is_bitwise_the_stock_convolution_on_a_cpu(case):
    if jax.default_backend() != "cpu":
        pytest.skip("a GPU picks its convolution algorithms by timing them")
    shape, x, w, dy = values(*case)
    ours = jax.jit(
        lambda x, w, dy: (
            canonical.forward(x, w, shape),
            canonical.dgrad(dy, w, shape),
            canonical.wgrad(x, dy, shape),
        )
    )(x, w, dy)
    theirs = jax.jit(lambda *args: pull(stock(shape), *args))(x, w, dy)
    for our, their in zip(ours, theirs, strict=True):
        assert (np.asarray(our) == np.asarray(their)).all()


LONG_SUM = (128, 32, 16, 16, 3, 1)  # 131072 terms in each entry of dW


LARGE = [(64, 2, 512, 512, 3, 1), (64, 16, 64, 64, 3, 1), LONG_SUM]


@pytest.mark.parametrize("case", [*CASES.values(), *(pytest.param(case, marks=pytest.mark.long) for case in LARGE)])
def test_full_errs_by_at_most_1e_5_of_the_largest_entry(case):
    shape, x, w, dy = values(*case)
    ours = jax.jit(lambda *args: pull(lambda x, w: conv(x, w, strides=shape.strides), *args))(x, w, dy)
    for our, truth in zip(ours, double(shape, x, w, dy), strict=True):
        assert np.abs(np.asarray(our, np.float64) - truth).max() <= 1e-5 * np.abs(truth).max()


def test_groups_and_dilation_are_refused_with_a_reason():
    _, x, w, _ = values(2, 8, 4, 4, 3, 1)
    with pytest.raises(ValueError, match=r"`groups` \(=2\) must be 1"):
        conv(x, w, groups=2)
    with pytest.raises(ValueError, match=r"`dilation` \(=\(2, 2\)\)"):
        conv(x, w, dilation=(2, 2))


def test_shapes_that_do_not_fit_are_named():
    _, x, w, _ = values(2, 8, 4, 4, 3, 1)
    with pytest.raises(ValueError, match="with the Ci of `x`"):
        conv(x[..., :3], w)
    with pytest.raises(ValueError, match="does not fit into the padded image"):
        conv(x[:, :2, :2], w, padding="VALID")
    with pytest.raises(ValueError, match="one dtype"):
        conv(x.astype(jnp.bfloat16), w)


@pytest.mark.parametrize(
    ("size", "channels"), [((2, 6.5, 6, 3), 4), ((2, -6, 6, 3), 4), ((0, 6, 6, 3), 4), ((2, 6, 6, 3), 0)]
)
def test_sizes_that_no_array_has_are_named(size, channels):
    with pytest.raises(ValueError, match=r"`(x_shape|out_channels)` .* must be of whole numbers of at least 1"):
        conv_shape(size, channels, (3, 3))


def test_a_method_that_draws_asks_for_its_key():
    _, x, w, _ = values(2, 8, 4, 4, 3, 1)
    with pytest.raises(ValueError, match="pass `key`"):
        conv(x, w, method="random")


def test_zero_and_random_keep_no_input_for_the_backward_pass():
    _, x, w, _ = values(2, 8, 4, 4, 3, 1)
    for name, kept in (("full", True), ("approx", True), ("zero", False), ("random", False), ("skip", False)):
        _, back = jax.vjp(lambda x, w, name=name: conv(x, w, method=name, key=jax.random.key(0)), x, w)
        shapes = [leaf.shape for leaf in jax.tree.leaves(back) if hasattr(leaf, "shape")]
        assert (x.shape in shapes) is kept, name
