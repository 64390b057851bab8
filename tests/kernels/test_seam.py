"""What a method may decide at the seam: both gradients, and what is kept of the forward pass; nothing goes round it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from approxtrain_kernels import Method, canonical, conv, conv_shape, dense, exact, native, weight_gradient
from approxtrain_kernels.methods import all_methods, make
from approxtrain_kernels.methods.approx import Approx

SHAPE = conv_shape((4, 6, 6, 3), 5, (3, 3))
KEY = jax.random.key(3)


@pytest.fixture(autouse=True)
def by_xla(monkeypatch):
    """XLA's convolutions, which a compiled program names."""
    monkeypatch.setattr(native, "available", lambda: False)


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    sizes = (SHAPE.x_shape, SHAPE.w_shape, SHAPE.y_shape)
    return [jnp.asarray(rng.standard_normal(size), jnp.float32) for size in sizes]


def pulled(method, x, w, dy, key=KEY):
    """(dx, dw) as a network gets them."""
    return jax.vjp(partial(conv, method=method, key=key), x, w)[1](dy)


@dataclass(frozen=True)
class Half(Method):
    """The first half of the images, twice; of x it keeps nothing else. dx and dW share that choice."""

    name = "half"
    needs = frozenset({"x", "dy"})

    def keep(self, x, *, shape, key):
        return {"images": x[: shape.batch // 2]}

    def gradients(self, kept, w, dy, *, shape, key):
        few = replace(shape, batch=shape.batch // 2)
        dy = 2 * dy[: few.batch]
        dx = jnp.pad(dense.dgrad(dy, w, few), ((0, few.batch), (0, 0), (0, 0), (0, 0)))
        return dx, dense.wgrad(kept["images"], dy, few)


@dataclass(frozen=True)
class Sketch(Method):
    """dW of the image in the middle, whose dgrad is exact: it writes `keep` and `estimate`."""

    name = "sketch"
    needs = frozenset({"x", "dy"})

    def keep(self, x, *, shape, key):
        return x.mean(0, keepdims=True)

    def estimate(self, x, dy, *, shape, key):
        return dense.wgrad(x, dy.sum(0, keepdims=True), replace(shape, batch=1))


def test_a_method_that_writes_gradients_gives_both():
    x, w, dy = arrays()
    dx, dw = pulled(Half(), x, w, dy)
    thinned = np.asarray(dy) * np.array([2, 2, 0, 0])[:, None, None, None]
    np.testing.assert_allclose(dx, exact.dgrad(thinned, np.asarray(w), SHAPE), atol=1e-4)
    np.testing.assert_allclose(dw, exact.wgrad(np.asarray(x), thinned, SHAPE), atol=1e-4)
    np.testing.assert_array_equal(weight_gradient(x, dy, kernel_size=(3, 3), method=Half()), dw)


def test_a_method_that_writes_an_estimate_of_what_it_keeps_has_the_exact_dgrad():
    x, w, dy = arrays()
    dx, dw = pulled(Sketch(), x, w, dy)
    np.testing.assert_allclose(dx, exact.dgrad(np.asarray(dy), np.asarray(w), SHAPE), atol=1e-4)
    middle, summed = np.asarray(x).mean(0, keepdims=True), np.asarray(dy).sum(0, keepdims=True)
    np.testing.assert_allclose(dw, exact.wgrad(middle, summed, replace(SHAPE, batch=1)), atol=1e-4)
    np.testing.assert_array_equal(weight_gradient(x, dy, kernel_size=(3, 3), method=Sketch()), dw)


@pytest.mark.parametrize(("method", "kept"), [(Half(), (2, 6, 6, 3)), (Sketch(), (1, 6, 6, 3))])
def test_of_x_is_kept_what_the_method_keeps_and_no_more(method, kept):
    x, w, _ = arrays()
    _, back = jax.vjp(partial(conv, method=method), x, w)
    shapes = {leaf.shape for leaf in jax.tree.leaves(back) if jnp.issubdtype(leaf.dtype, jnp.floating)}
    assert shapes == {kept, SHAPE.w_shape}


def test_whether_a_dgrad_is_exact_follows_from_what_a_class_writes():
    assert [kind.exact_dgrad for kind in (Method, Half, Sketch)] == [True, False, True]
    inherits = type("Inherits", (Half,), {})
    says_so = type("SaysSo", (Half,), {"gradients": Half.gradients, "exact_dgrad": True})
    assert (inherits.exact_dgrad, says_so.exact_dgrad) == (False, True)
    assert Half().dgrad_flops(SHAPE) == SHAPE.flops  # nothing saved, unless a method says so
    with pytest.raises(NotImplementedError, match="neither `estimate` nor `gradients`"):
        Method.estimate(type("Empty", (Method,), {"name": "empty"})(), None, None, shape=SHAPE, key=None)


@pytest.mark.parametrize("method", [make("full"), make("pooled"), Half(), Sketch()], ids=lambda method: method.name)
def test_a_compiled_program_holds_no_gradient_that_nobody_reads(method):
    def convolutions(of):
        program = jax.jit(lambda *arrays: of(*pulled(method, *arrays))).lower(*arrays()).compile()
        return len(re.findall(r" convolution\(", program.as_text()))

    assert convolutions(lambda dx, dw: dx) == convolutions(lambda dx, dw: dw) == 1
    assert convolutions(lambda dx, dw: (dx, dw)) == 2


@pytest.mark.parametrize("name", all_methods())
def test_every_method_agrees_with_its_oracles_and_alone_with_itself_in_a_vjp(name):
    x, w, dy = arrays()
    method = make(name)
    dx, dw = jax.jit(partial(pulled, method))(x, w, dy)
    x64, w64, dy64 = (np.asarray(array, np.float64) for array in (x, w, dy))
    np.testing.assert_allclose(dx, method.dgrad_oracle(x64, w64, dy64, SHAPE, KEY), atol=1e-4)
    np.testing.assert_allclose(dw, method.oracle(x64, dy64, SHAPE, KEY), atol=1e-4)
    alone = weight_gradient(x, dy, kernel_size=(3, 3), method=name, key=KEY)
    np.testing.assert_allclose(alone, dw, atol=1e-5)


@pytest.mark.parametrize("take", [jax.grad, lambda f: lambda w: jax.jvp(f, (w,), (w,))], ids=["reverse", "forward"])
@pytest.mark.parametrize("name", [name for name in all_methods() if name != "full"])
def test_a_second_derivative_does_not_go_round_an_estimate(name, take):
    x, w, dy = arrays()

    def penalty(w):
        dx = jax.grad(lambda x, w: (conv(x, w, method=name, key=KEY) * dy).sum())(x, w)
        return (dx**2).sum()

    with pytest.raises(ValueError, match=f"derivative of the gradients of method '{name}'.*Take the method 'full'"):
        take(penalty)(w)


def test_full_is_differentiated_twice():
    x, w, dy = arrays()

    def penalty(method, w):
        y, back = jax.vjp(method, x, w)
        return sum((part**2).sum() for part in back(dy * y))

    stock = partial(
        jax.lax.conv_general_dilated, window_strides=(1, 1), padding="SAME", dimension_numbers=canonical.ORDER
    )
    ours, theirs = (jax.grad(partial(penalty, function))(w) for function in (conv, stock))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-2)


def test_two_implementations_are_two_programs_and_one_label():
    x, _, dy = arrays()
    traced = []

    @partial(jax.jit, static_argnames="method")
    def gradient(x, dy, method):
        traced.append(method.implementation)
        return weight_gradient(x, dy, kernel_size=(3, 3), method=method)

    reference, xla = (Approx(implementation=name) for name in ("reference", "xla"))
    gradient(x, dy, reference), gradient(x, dy, xla), gradient(x, dy, Approx(implementation="xla"))
    assert traced == ["reference", "xla"]
    assert (xla.label, xla.params) == ("approx", {"k": 1, "scale": 1.0})
    assert make("approx", implementation="xla") == xla


X, W, DY = np.ones(SHAPE.x_shape, np.float32), np.ones(SHAPE.w_shape, np.float32), np.ones(SHAPE.y_shape, np.float32)
WRONG = {
    "no array": ({"x": X.tolist()}, r"`x` is a list: pass an array \[N, H, W, Ci\], by jnp.asarray"),
    "three axes": ({"x": X[0]}, r"`x` must have the four axes \[N, H, W, Ci\], but its shape is \(6, 6, 3\)"),
    "no image": ({"x": X[:0], "dy": DY[:0]}, r"`x` is empty, its shape is \(0, 6, 6, 3\): leave out"),
    "whole numbers": ({"x": X.astype(np.uint8)}, r"`x` is uint8.*convert it, by x.astype\(jnp.float32\)"),
    "complex": ({"x": X.astype(np.complex64)}, "`x` is complex64.*real and its imaginary part"),
    "two dtypes": ({"x": X.astype(np.float16)}, r"`x` \(float16\) and `.+` \(float32\) must have one dtype: cast one"),
    "strides of halves": ({"strides": (1.5, 1)}, r"`strides` \(=\(1.5, 1\)\) must be two whole numbers of at least 1"),
    "one stride": ({"strides": 2}, r"`strides` \(=2\) must be two whole numbers"),
    "no stride": ({"strides": (0, 1)}, r"`strides` \(=\(0, 1\)\) must be two whole numbers"),
    "padding of halves": ({"padding": ((0.5, 0), (0, 0))}, "must be 'SAME', 'VALID' or two pairs of whole numbers"),
    "padding that is negative": ({"padding": ((-1, 1), (0, 0))}, "two pairs of whole numbers that are not negative"),
    "no padding": ({"padding": None}, r"`padding` \(=None\) must be 'SAME', 'VALID' or two pairs"),
    "unknown padding": ({"padding": "FULL"}, r"`padding` \(='FULL'\) must be"),
    "groups": ({"groups": 3}, r"`groups` \(=3\) must be 1"),
    "dilation": ({"dilation": (2, 2)}, r"`dilation` \(=\(2, 2\)\) must be \(1, 1\)"),
    "unknown method": ({"method": "aprox"}, "Did you mean 'approx'?"),
    "no method": ({"method": Approx}, "must be a method's name, such as 'approx', or an instance of one"),
    "unknown parameter": ({"method": "approx", "kk": 2}, "has no parameter 'kk'; it takes k, scale, implementation"),
    "another's parameter": (
        {"method": "pooled", "k": 2},
        "it takes r. 'k' belongs to approx, mvue: leave it out, or change",
    ),
    "another's form": ({"method": "pooled", "implementation": "xla"}, "'implementation' belongs to approx"),
    "wrong parameter": ({"method": "approx", "k": 0}, r"`k` \(=0\) must be a whole number of at least 1"),
    "unknown form": ({"method": "approx", "implementation": "palas"}, r"`implementation` \(='palas'\) must be one of"),
    "parameters twice": (
        {"method": Approx(k=2), "k": 3},
        r"`k` is given beside the instance approx\(k=2\).*put it into",
    ),
    "no key": ({"method": "random"}, "method 'random' draws numbers: pass `key`"),
    "a seed as key": ({"method": "random", "key": 0}, r"`key` \(=0\) must be one random key"),
    "many keys": ({"method": "random", "key": jax.random.split(KEY)}, "must be one random key"),
}


@pytest.mark.parametrize("function", ["conv", "weight_gradient"])
@pytest.mark.parametrize(("given", "told"), WRONG.values(), ids=WRONG)
def test_a_wrong_argument_is_answered_in_words_by_both(function, given, told):
    call, operands = {
        "conv": (conv, {"x": X, "w": W}),
        "weight_gradient": (partial(weight_gradient, kernel_size=(3, 3)), {"x": X, "dy": DY}),
    }[function]
    options = {name: value for name, value in given.items() if name not in ("x", "dy")}
    operands |= {name: value for name, value in given.items() if name in operands}
    with pytest.raises(ValueError, match=told):
        call(*operands.values(), **options)


def test_both_take_the_same_arguments():
    x, _, dy = arrays()
    for method in ({"method": "approx", "k": 2}, {"method": Approx(k=2)}):
        _, dw = jax.vjp(partial(conv, **method), x, jnp.asarray(W))[1](dy)
        np.testing.assert_array_equal(weight_gradient(x, dy, kernel_size=(3, 3), **method), dw)


def test_a_named_implementation_that_does_not_run_here_is_refused_by_conv_too():
    x, w = jnp.ones((2, 6, 6, 3)), jnp.ones((3, 3, 3, 4))
    loss = jax.jit(jax.grad(lambda w: conv(x, w, method="approx", implementation="pallas").sum()))
    with pytest.raises(ValueError, match="has kernels for NVIDIA GPUs"):
        loss(w)
