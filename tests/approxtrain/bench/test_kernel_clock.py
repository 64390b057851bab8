"""The clock of `bench-kernel`: whole samples, turns that keep cold cold, and what CUPTI's kernels are added up to."""

from __future__ import annotations

import itertools

import pytest

from approxtrain.bench import kernel_clock
from approxtrain.bench.kernel_clock import (
    LOOP_SECONDS,
    WHOLE,
    Cupti,
    Loop,
    TimedCall,
    UnseenError,
    best_clock,
    take_turns,
)


class Clock:
    """A clock that only calls move on."""

    def __init__(self, monkeypatch) -> None:
        self.now, self.log = 0.0, []
        monkeypatch.setattr(kernel_clock.time, "perf_counter", lambda: self.now)

    def call(self, name: str, seconds: float, *, queues: bool = False, by_kernel: bool = False) -> TimedCall:
        """A call takes `seconds`, when it is run, or in a queue when it is waited for."""
        waiting = []

        def run(number: int) -> int:
            self.log.append((name, number))
            waiting.append(seconds)
            if not queues:
                self.now += waiting.pop()
            return number

        def wait(_: object) -> None:
            self.now += sum(waiting)
            waiting.clear()

        return TimedCall(name, run, wait, queues, by_kernel)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize("queues", [False, True])
@pytest.mark.parametrize("seconds", [1e-5, 1e-3, 0.5])
def test_a_sample_is_the_time_of_one_call_and_lasts_long_enough(seconds, queues, clock):
    loop = Loop()
    sample = loop.sample(clock.call("a", seconds, queues=queues), itertools.repeat(0))
    assert sample == {WHOLE: pytest.approx(seconds)}
    assert LOOP_SECONDS <= loop.calls["a"] * seconds <= max(1.2 * LOOP_SECONDS, seconds)


def test_every_contender_is_warmed_and_every_sample_has_a_call_before_it_that_is_not_timed(clock):
    taken = take_turns([clock.call("a", 1.0), clock.call("b", 2.0)], Loop(), 3, 1)
    assert taken == {"a": [{WHOLE: 1.0}] * 3, "b": [{WHOLE: 2.0}] * 3}
    rounds = "".join(name for name, _ in clock.log)
    assert rounds.endswith("aabb" * 3)
    warm = rounds.removesuffix("aabb" * 3)
    assert min(warm.count("a"), warm.count("b")) >= kernel_clock.WARM_UP + 2  # the first round is not kept


def test_the_sets_of_inputs_take_turns_whoever_asks(clock):
    take_turns([clock.call("a", 0.009), clock.call("b", 1.0)], Loop(), 2, 5)
    numbers = [number for _, number in clock.log]
    assert numbers == [place % 5 for place in range(len(numbers))]


class Driver:
    """What stands for CUPTI: a warm-up call, then the kernels of each call, in ms."""

    KERNELS = (
        ("loop_transpose_fusion", 0.5),
        ("sm90_xmma_wgrad_implicit_gemm", 2.0),
        ("cudnn::nhwcToNchwKernel", 0.25),
        ("top1_gather", 1.0),
    )

    def __call__(self, function, *, aggregate: bool, iterations: int):
        assert not aggregate

        def measured():
            results = [function() for _ in range(1 + iterations)]
            return results[-1], [list(self.KERNELS) for _ in range(iterations)]

        return measured


def test_cupti_adds_up_kernels_and_knows_those_that_change_a_layout(clock):
    taken = take_turns([clock.call("a", 9.0, queues=True, by_kernel=True)], Cupti(Driver()), 2, 7)["a"]
    assert taken == [{name: pytest.approx(ms / 1e3) for name, ms in Driver.KERNELS}] * 2
    layout = [name for name in taken[0] if kernel_clock.LAYOUT.search(name)]
    assert layout == ["loop_transpose_fusion", "cudnn::nhwcToNchwKernel"]
    numbers = [number for _, number in clock.log]
    assert numbers == [place % 7 for place in range(len(numbers))]  # its warm-up took another set


def test_what_is_not_to_be_timed_by_kernel_is_timed_by_the_wall_clock_beside_cupti(clock):
    cupti = Cupti(Driver())
    taken = take_turns([clock.call("vjp full", 1.0, queues=True)], cupti, 2, 1)["vjp full"]
    assert taken == [{WHOLE: 1.0}] * 2
    assert cupti.calls == {"vjp full": 1}


@pytest.mark.parametrize("kernels", [None, []])
def test_kernels_that_cupti_does_not_see_are_no_time_of_nought(kernels, clock):
    def blind(function, **_):
        return lambda: (function(), kernels)

    with pytest.raises(UnseenError, match="a: no kernel"):
        take_turns([clock.call("a", 1.0, by_kernel=True)], Cupti(blind), 2, 1)


def test_what_cupti_is_given_passes_for_a_jitted_function():
    from jax._src import stages  # what its front end asks for

    assert isinstance(
        kernel_clock._InTurn(TimedCall("a", lambda _: None, lambda _: None), itertools.repeat(0)), stages.Wrapped
    )


def test_a_cpu_has_the_loop():
    made = best_clock()()
    assert (made.name, made.calls) == ("loop", {})
    assert best_clock()() is not made
