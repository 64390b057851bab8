"""What the contenders of `bench-kernel` get and compute."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from approxtrain.bench import kernel_contenders
from approxtrain.bench.kernel_cases import PRECISIONS, Case
from approxtrain_kernels import conv_shape, exact
from approxtrain_kernels.methods.approx import Approx
from approxtrain_kernels.methods.zero import Zero

SHAPE = conv_shape((2, 4, 4, 3), 5, (3, 3))
UNEVEN = conv_shape((2, 6, 5, 3), 4, (3, 3), (2, 2))
"""SAME pads one side more than the other."""


@pytest.mark.parametrize("shape", [SHAPE, UNEVEN], ids=["even", "uneven"])
def test_the_references_of_forward_and_dgrad_are_those_of_jax_in_float64(shape):
    rng = np.random.default_rng(0)
    x, w, dy = (rng.standard_normal(size) for size in (shape.x_shape, shape.w_shape, shape.y_shape))
    with jax.enable_x64(True):

        def stock(x):
            return jax.lax.conv_general_dilated(
                x, jnp.asarray(w), shape.strides, shape.padding, dimension_numbers=kernel_contenders.ORDER
            )

        y, back = jax.vjp(stock, jnp.asarray(x))
        np.testing.assert_allclose(exact.forward(x, w, shape), y, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(exact.dgrad(dy, w, shape), back(jnp.asarray(dy))[0], rtol=1e-12, atol=1e-12)


def test_inputs_have_the_zeros_of_a_relu_and_the_dtype_and_copies_are_other_memory():
    inputs = kernel_contenders.draw(Case(SHAPE, PRECISIONS["bfloat16"], "wgrad", Approx()), 0)
    assert {array.dtype for array in inputs.values()} == {jnp.dtype("bfloat16")}
    assert 0.3 < np.mean(np.asarray(inputs["x"]) == 0) < 0.7
    first, second = kernel_contenders.copies(inputs, 2)
    assert first is inputs
    assert first["x"].unsafe_buffer_pointer() != second["x"].unsafe_buffer_pointer()
    np.testing.assert_array_equal(first["x"], second["x"])


def test_the_forward_pass_is_not_in_the_vjp():
    """All convolutions of its program are those of the two gradients."""
    programs = kernel_contenders.programs(Case(SHAPE, PRECISIONS["float32"], "wgrad", Zero()))
    (text,) = [program.run.as_text() for program in programs if program.name == "vjp method"]
    assert text.count("convolution(") + len(re.findall(r"approxtrain_[dw]grad_\w+\"", text)) <= 1
