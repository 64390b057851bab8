"""The written model of the GPU kernels: what it expects, and that its choice is what an H100 was measured to want."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from approxtrain_kernels import conv_shape
from approxtrain_kernels.pallas.choose import FORMS, choose, full, plans, verdict
from approxtrain_kernels.pallas.model import A100, H100, H200, device_of
from approxtrain_kernels.shapes import PAPER

PRECISIONS = {"float32": ("float32", False), "tf32": ("float32", True), "bfloat16": ("bfloat16", True)}
BY_SIZE = {(shape.height, shape.in_channels): shape for shape in PAPER}
DEVICES = (A100, H100, H200)


def seconds(shape, k, precision, device=H200):
    dtype, tf32 = PRECISIONS[precision]
    return {plan.form: plan.seconds for plan in plans(shape, k, dtype, tf32=tf32, device=device)}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("device", DEVICES, ids=lambda d: d.name)
@pytest.mark.parametrize("shape", PAPER, ids=lambda s: f"{s.height}x{s.height}x{s.in_channels}")
def test_the_choice_is_the_fastest_form_or_dense_where_none_beats_the_full_wgrad(shape, device, precision):
    dtype, tf32 = PRECISIONS[precision]
    of = {"tf32": tf32, "device": device}
    chosen, whole = choose(shape, 1, dtype, **of), full(shape, dtype, **of)
    found = seconds(shape, 1, precision, device)
    assert found[chosen.form] == chosen.seconds
    if chosen.form == "dense":
        assert min(found.values()) >= whole.seconds
    else:
        assert chosen.seconds == min(found.values()) < whole.seconds
    pays, why = verdict(shape, 1, dtype, **of)
    assert pays == (chosen.form != "dense")
    assert device.name in why
    assert "not measured" in why


@pytest.mark.parametrize("size", [(32, 64), (16, 128)])
def test_patches_are_fetched_on_large_maps(size):
    assert {choose(BY_SIZE[size], 1, *PRECISIONS[p][:1], tf32=PRECISIONS[p][1]).form for p in PRECISIONS} <= {
        "gather",
        "fused",
        "tensor",
    }


@pytest.mark.parametrize("size", [(4, 512), (2, 512)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_on_small_maps_tensor_cores_win_with_the_dense_form(size, dtype):
    assert choose(BY_SIZE[size], 1, dtype).form == "dense"


def test_strict_float32_makes_the_dense_form_slow_so_that_gather_pays_on_more_maps():
    paid = {p: {s for s in PAPER if verdict(s, 1, PRECISIONS[p][0], tf32=PRECISIONS[p][1])[0]} for p in PRECISIONS}
    assert paid["float32"] > paid["tf32"]
    assert BY_SIZE[4, 512] in paid["float32"]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shape", PAPER, ids=lambda s: f"{s.height}x{s.height}x{s.in_channels}")
def test_more_work_never_takes_less_time(shape, precision):
    base = seconds(shape, 1, precision)
    twice = seconds(replace(shape, batch=2 * shape.batch), 1, precision)
    more = seconds(shape, 3, precision)
    assert all(twice[form] >= base[form] and more.get(form, 1) >= base[form] for form in base)


def test_keeping_all_entries_is_the_full_wgrad():
    shape = BY_SIZE[4, 512]
    plan = choose(shape, 16)
    assert (plan.form, plan.seconds, plan.blocks) == ("dense", full(shape).seconds, None)
    assert [p.form for p in plans(shape, 16)] == ["dense"]


def test_the_tensor_form_is_only_for_those_who_allow_tf32():
    shape = BY_SIZE[16, 128]
    assert [plan.form for plan in plans(shape)] == list(FORMS)
    assert "tensor" not in [plan.form for plan in plans(shape, tf32=False)]
    assert "tensor" in [plan.form for plan in plans(shape, 1, "bfloat16", tf32=False)]


@pytest.mark.parametrize("kernel", [1, 2, 5, 7, 31])
def test_every_kernel_size_has_a_plan_whose_accumulators_fit_into_registers(kernel):
    shape = conv_shape((8, 40, 40, 16), 16, (kernel, kernel))
    found = plans(shape)
    assert found[-1].form == "dense"
    for plan in found[:-1]:
        assert plan.blocks is not None
        assert plan.blocks.co * plan.blocks.ci * kernel**2 <= 80 * 32 * plan.blocks.warps


def test_on_an_h100_the_choice_is_the_form_that_was_measured_fastest():
    rows = json.loads((Path(__file__).parents[2] / "results/gpu/h100/forms.json").read_text())["rows"]
    right = []
    for row in rows:
        known = row["shape"]
        dtype, tf32 = PRECISIONS[row["precision"]]
        chosen = choose(BY_SIZE[known["height"], known["in_channels"]], 1, dtype, tf32=tf32, device=H100).form
        times = {name: sum(us for _, us in form["kernels_us"]) for name, form in row["forms"].items() if name != "full"}
        right.append(chosen == min(times, key=times.__getitem__))
        assert times[chosen] <= 1.25 * min(times.values())
    assert (len(right), sum(right)) == (24, 22)


def test_a_device_is_known_by_its_name():
    assert device_of("NVIDIA H200") is H200
    assert device_of("NVIDIA H100 80GB HBM3") is H100
    assert device_of("NVIDIA L4") is A100
