"""What the tests of compiled programs read out of one: convolutions, launches, registers, transposes."""

from __future__ import annotations

import pytest

from tests.gpu.program import Program, Resources, Thunk, entries, resources

CALL = (
    '%ours.1 = f32[9,8]{1,0} custom-call(%x, %dy), custom_call_target="__gpu$xla.gpu.triton", '
    'metadata={op_name="jit(step)/transpose(jvp(approx_gather))/pallas_call" scheduling_name="ours.1"}, '
    'backend_config={grid_x = 4 : i32, ir = "%not an operand", name = "approx_gather", num_warps = 4 : i32}'
)
CUDNN = '%{} = (f32[8]{{0}}, u8[0]{{0}}) custom-call(%x, %dy), custom_call_target="__cudnn$conv{}"'


def program(*body: str, fused: tuple[str, ...] = ()) -> Program:
    inner = ["%fused (p.0: f32[9,8]) -> f32[8,9] {", *fused, "}"] if fused else []
    parameters = ("%x = f32[4,8]{1,0} parameter(0)", "%dy = f32[4,8]{1,0} parameter(1)")
    return Program(
        "\n".join([*inner, "ENTRY %main (x: f32[4,8], dy: f32[4,8]) -> f32[9,8] {", *parameters, *body, "}"])
    )


def beside(*body: str, fused: tuple[str, ...] = ()) -> tuple[list[str], list[str]]:
    """The transposes before and after our call."""
    compiled = program(*body, fused=fused)
    (call,) = compiled.pallas_calls
    assert call.kernel == "approx_gather"
    return compiled.transposes(call)


def test_convolutions_are_counted_by_what_they_compute():
    kinds = ("Forward", "BackwardInput", "BackwardFilter", "BackwardFilter")
    compiled = program(*(CUDNN.format(f"c.{number}", kind) for number, kind in enumerate(kinds)))
    assert compiled.convolutions == {"forward": 1, "forward with bias": 0, "dgrad": 1, "wgrad": 2}


def test_a_call_between_others_stands_beside_no_transpose():
    user = "ROOT %add = f32[9,8]{1,0} add(%ours.1, %ours.1)"
    far = "%far = f32[8,4]{0,1} transpose(%x), dimensions={1,0}"
    assert beside(CALL, far, user) == ([], [])


@pytest.mark.parametrize(
    "user",
    [
        "ROOT %moved = f32[8,9]{1,0} transpose(%ours.1), dimensions={1,0}",
        "ROOT %moved = f32[9,8]{0,1} copy(%ours.1)",
    ],
)
def test_a_transpose_or_another_layout_of_the_result_is_seen(user):
    assert beside(CALL, user) == ([], ["moved"])


def test_a_copy_to_the_same_layout_is_no_transpose():
    assert beside(CALL, "ROOT %same = f32[9,8]{1,0} copy(%ours.1)") == ([], [])


def test_a_transpose_of_an_operand_is_seen_through_a_bitcast():
    moved = "%moved = f32[4,8]{1,0} transpose(%x), dimensions={1,0}"
    cast = "%cast = f32[2,2,8]{2,1,0} bitcast(%moved)"
    assert beside(moved, cast, CALL.replace("(%x,", "(%cast,")) == (["moved"], [])


TURNED = ("%p.0 = f32[9,8]{1,0} parameter(0)", "%turned = f32[8,9]{1,0} transpose(%p.0), dimensions={1,0}")


def test_a_fusion_that_does_nothing_else_is_a_transpose_by_itself():
    user = "ROOT %wrapped = f32[8,9]{1,0} fusion(%ours.1), kind=kInput, calls=%fused"
    assert beside(CALL, user, fused=TURNED) == ([], ["wrapped"])


def test_a_transpose_on_the_side_of_a_fusion_counts_before_the_call_and_not_after_it():
    fused = (*TURNED, "ROOT %more = f32[8,9]{1,0} add(%turned, %turned)")
    fusion = "%{} = f32[8,9]{{1,0}} fusion(%{}), kind=kLoop, calls=%fused"
    assert beside(CALL, fusion.format("optimiser", "ours.1"), fused=fused) == ([], [])
    maker, call = fusion.format("made", "x"), CALL.replace("(%x,", "(%made,")
    assert beside(maker, call, fused=fused) == (["made"], [])


def test_launches_are_read_with_grid_warps_and_shared_memory():
    text = (
        "001: kCopy         [source       | next=002 (1)] kCopy\n"
        "002: kCustomKernel [prev=001 (1) | sink        ] approx_gather__1 grid: [4, 2, 3] threads: [128, 1, 1]  "
        "shared_memory: 2048 bytes\n"
    )
    compiled = Program("", text)
    assert compiled.thunks == [Thunk("Copy", "kCopy"), Thunk("CustomKernel", "approx_gather__1", (4, 2, 3), 128, 2048)]
    assert compiled.launches("approx_gather") == compiled.thunks[1:]
    assert compiled.launches("approx") == []


def test_registers_and_spills_are_read_from_ptxas():
    report = (
        "ptxas info    : 0 bytes gmem\n"
        "ptxas info    : Compiling entry function 'first' for 'sm_90a'\n"
        "    24 bytes stack frame, 20 bytes spill stores, 16 bytes spill loads\n"
        "ptxas info    : Used 255 registers, used 1 barriers, 24 bytes cumulative stack size, 512 bytes smem\n"
        "ptxas info    : Compiling entry function 'second' for 'sm_90a'\n"
        "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
        "ptxas info    : Used 32 registers, used 0 barriers\n"
    )
    assert resources(report) == {"first": Resources(255, 24, 20, 16, 512), "second": Resources(32, 0, 0, 0, 0)}
    assert [needs.spills for needs in resources(report).values()] == [True, False]
    with pytest.raises(ValueError, match="nothing is known of spills"):
        resources(report.replace("Used", "Takes"))
    assert entries(".visible .entry first(\n.entry second(") == ["first", "second"]
