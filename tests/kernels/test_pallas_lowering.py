"""The GPU kernels of `approx`, lowered for CUDA on a machine without it: the Triton program and what surrounds it."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax._src.interpreters import mlir
from jax._src.lib.mlir import ir
from jaxlib.triton import dialect

from approxtrain_kernels import conv, conv_shape, weight_gradient
from approxtrain_kernels.pallas import choose
from approxtrain_kernels.pallas.wgrad import device, estimate
from approxtrain_kernels.shapes import PAPER

# jax 0.11 says so whenever a kernel is lowered; outside of pytest, `triton.py` silences it
pytestmark = [pytest.mark.both, pytest.mark.filterwarnings("ignore:.*Triton backend is deprecated:DeprecationWarning")]

GPU = jax.sharding.AbstractDevice("NVIDIA H200", 132, "cuda")
KERNELS = {"gather": ["approx_select", "approx_gather"], "fused": ["approx_fused"]}
KERNELS |= {"tensor": ["approx_select", "approx_tensor"], "dense": ["approx_select"]}
ODD = conv_shape((3, 7, 5, 20), 19, (3, 3), (2, 2), ((2, 0), (1, 3)))


def lowered(function, *shapes, dtype="float32"):
    arrays = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), (), abstract_device=GPU)):
        return jax.jit(function).trace(*arrays).lower(lowering_platforms=("cuda",))


def operations(operation):
    for region in operation.regions:
        for block in region.blocks:
            for child in block.operations:
                yield child.operation
                yield from operations(child.operation)


def kernels(program):
    """Name → Triton program of the kernels called; parsed and verified, which checks tensor sizes."""
    found = {}
    for operation in operations(program.compiler_ir("stablehlo").operation):
        if operation.name == "stablehlo.custom_call" and "triton" in str(operation.attributes["call_target_name"]):
            config = operation.attributes["mhlo.backend_config"]
            with mlir.make_ir_context() as context:
                dialect.register_dialect(context)
                module = ir.Module.parse(config["ir"].value_bytes)
                assert module.operation.verify()
                found[config["name"].value] = str(module)
    return found


@pytest.mark.gate
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("shape", [ODD, PAPER[1]], ids=["odd", "16x16x128"])
def test_each_form_is_its_kernels_without_atomics_and_without_transposes_around_them(shape, k, dtype):
    for plan in choose.plans(shape, k, dtype):
        program = lowered(partial(estimate, shape=shape, k=k, plan=plan), shape.x_shape, shape.y_shape, dtype=dtype)
        found = kernels(program)
        assert list(found) == KERNELS[plan.form]
        assert not any("atomic" in text for text in found.values())
        names = {operation.name for operation in operations(program.compiler_ir("stablehlo").operation)}
        assert ("stablehlo.convolution" in names) == (plan.form == "dense")
        if plan.form != "dense":
            assert names & {"stablehlo.transpose", "stablehlo.pad", "stablehlo.convert"} == set()
        if plan.form == "tensor":
            precision = "" if dtype == "bfloat16" else "inputPrecision = tf32"
            assert found["approx_tensor"].count("tt.dot") == 9 * (2 if dtype == "bfloat16" else 1)
            assert precision in found["approx_tensor"]


def test_float32_products_are_strict_in_gather_and_there_is_no_tensor_form_where_jax_is_told_so():
    by_form = {plan.form: plan for plan in choose.plans(ODD, tf32=False)}
    assert list(by_form) == ["gather", "fused", "dense"]
    shape = PAPER[2]
    assert choose.choose(shape).form != choose.choose(shape, tf32=False).form
    with jax.default_matmul_precision("highest"):
        strict = kernels(lowered(partial(estimate, shape=shape, k=1), shape.x_shape, shape.y_shape))
        found = kernels(lowered(partial(estimate, shape=ODD, k=1, plan=by_form["gather"]), ODD.x_shape, ODD.y_shape))
    assert list(strict) == KERNELS[choose.choose(shape, tf32=False, device=device()).form]
    assert "tt.dot" not in found["approx_gather"]


def test_the_kernels_are_the_same_where_python_numbers_are_64_bits_wide():
    for plan in choose.plans(ODD, 3):
        call = partial(estimate, shape=ODD, k=3, plan=plan)
        narrow = kernels(lowered(call, ODD.x_shape, ODD.y_shape))
        with jax.enable_x64(True):
            assert kernels(lowered(call, ODD.x_shape, ODD.y_shape)) == narrow


@pytest.mark.parametrize("implementation", [None, "pallas"])
def test_a_program_for_cuda_has_the_kernels_in_loops_branches_and_under_vmap(implementation):
    shape = PAPER[4]

    def loss(w, x):
        return (conv(x, w, method="approx", implementation=implementation) ** 2).sum()

    def train(w, x):
        def step(w, branch):
            return jax.lax.switch(branch, [lambda w: w, lambda w: w - jax.grad(loss)(w, x)], w), None

        return jax.lax.scan(step, w, jnp.arange(2))[0]

    batched = jax.vmap(train, (None, 0))
    expected = KERNELS[choose.choose(shape).form]
    assert list(kernels(lowered(train, shape.w_shape, shape.x_shape))) == expected
    assert list(kernels(lowered(batched, shape.w_shape, (2, *shape.x_shape)))) == expected


def test_asked_for_on_another_platform_it_says_what_to_do():
    if jax.default_backend() == "gpu":
        pytest.skip("here it runs")
    x, dy = jnp.ones((2, 3, 6, 6, 2)), jnp.ones((2, 3, 6, 6, 4))
    call = partial(weight_gradient, kernel_size=(3, 3), method="approx", implementation="pallas")
    for function, of in ((call, (x[0], dy[0])), (jax.jit(call), (x[0], dy[0])), (jax.jit(jax.vmap(call)), (x, dy))):
        with pytest.raises(ValueError, match=r"NVIDIA.* for \w+\. Take 'pallas-interpret'.*'xla' or None"):
            function(*of)


@pytest.mark.parametrize("implementation", ["pallas", "pallas-interpret"])
@pytest.mark.parametrize("method", ["full", "zero"])
def test_other_methods_have_one_form_and_refuse_to_be_asked_for_another(method, implementation):
    x, dy = jnp.ones((3, 6, 6, 2)), jnp.ones((3, 6, 6, 4))
    with pytest.raises(ValueError, match=f"method '{method}' has no parameter 'implementation'.*belongs to approx"):
        weight_gradient(x, dy, kernel_size=(3, 3), method=method, implementation=implementation)
