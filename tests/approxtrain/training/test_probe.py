"""What a probe measures, held against float64 written from the equations; and that the run does not notice it."""

from __future__ import annotations

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from approxtrain import disk
from approxtrain.config import dump
from approxtrain.models import Model
from approxtrain.run import checkpoint, record
from approxtrain.run.folder import RunFolder
from approxtrain.training import probe
from approxtrain.training.events import Listener
from approxtrain.training.loop import Run
from approxtrain.training.step import set_up
from approxtrain_kernels import conv_shape
from approxtrain_kernels.methods import make

pytestmark = pytest.mark.gate

ALTERNATING = {"rules": [{"method": "approx", "layers": [2, 3], "steps": {"every": 2}}]}
ONE_COLUMN = {"grid": [["pooled"], ["random"], ["approx"]]}
TWO_COLUMNS = {"grid": [["zero", "full"], ["approx", "zero"], ["full", "full"]]}
THREE_COLUMNS = {"grid": [["full", "full", "zero"], ["full", "approx", "approx"], ["full", "random", "full"]]}


class Crash(Exception):
    """The run ends here, with what is written so far."""


class Note(Listener):
    def __init__(self, crash_after: int | None = None) -> None:
        self.crash_after = crash_after
        self.warnings, self.steps, self.probes = [], 0, []

    def compiling_probe(self, cells):
        self.probes.append((self.steps, cells))

    def step(self, step, losses):
        self.steps = step
        if step == self.crash_after:
            raise Crash

    def warn(self, message):
        self.warnings.append(message)


def start(path: Path, config, listener: Listener | None = None) -> dict:
    with RunFolder.create(path) as folder:
        disk.write(folder.config, dump(config))
        return Run(config, folder, listener or Listener()).train()


def rows(path: Path, kind: str) -> list[dict]:
    return [row for row in record.rows(path / record.METRICS) if row["kind"] == kind]


def final_state(path: Path, config) -> list[bytes]:
    """The bytes of every array of the newest checkpoint."""
    with RunFolder.open(path) as folder:
        found = checkpoint.load_latest(folder.checkpoints, Run(config, folder, Listener()).initial)
    assert found is not None
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(found[0])]


def windows(x: np.ndarray, shape):
    """Tap (i, j) of the kernel → the slice of the padded input that it sees."""
    (kh, kw), (sh, sw), (_, ho, wo, _) = shape.kernel_size, shape.strides, shape.y_shape
    for i in range(kh):
        for j in range(kw):
            yield (i, j), np.s_[:, i : i + (ho - 1) * sh + 1 : sh, j : j + (wo - 1) * sw + 1 : sw]


def convolve(x, w, shape):
    padded = np.pad(x, ((0, 0), *shape.padding, (0, 0)))
    return sum(padded[seen] @ w[tap] for tap, seen in windows(x, shape))


def input_gradient(dy, w, shape):
    padded = np.pad(np.zeros(shape.x_shape), ((0, 0), *shape.padding, (0, 0)))
    for tap, seen in windows(padded, shape):
        padded[seen] += dy @ w[tap].T
    (top, _), (left, _) = shape.padding
    return padded[:, top : top + shape.height, left : left + shape.width]


def expected(method, x, dy, shape) -> list[float]:
    """FIGURES in float64, plane by plane."""
    exact, approximated = (rule.oracle(x, dy, shape).ravel() for rule in (make("full"), method))
    norms = [math.sqrt(float(w @ w)) for w in (approximated, exact)]
    cosine = float(approximated @ exact) / (norms[0] * norms[1]) if norms[0] else 0.0
    dead = disagree = 0
    planes = [dy[n, :, :, c].ravel() for n in range(len(dy)) for c in range(dy.shape[-1])]
    for plane in planes:
        largest = max(plane, key=abs)  # of equal ones the first
        dead += largest == 0
        disagree += largest != 0 and np.sign(math.fsum(plane)) != np.sign(largest)
    return [cosine, norms[0] / norms[1], disagree / (len(planes) - dead), dead / len(planes)]


def test_every_figure_is_that_of_the_equations_in_float64(configure):
    model = Model("two", "", "tests.networks:TwoConvolutions", image_shape=(8, 8, 3))
    task, state = set_up(model, configure({"name": "full"}), 6, jax.random.split(jax.random.key(0), 1))
    params = jax.tree.map(lambda leaf: leaf[0], state.params)
    rng = np.random.default_rng(0)
    params["one"]["bias"] = jnp.asarray([0.3, 0.0, -0.2, -99.0, 0.1])  # the fourth channel is dead
    x, labels = rng.standard_normal((16, 8, 8, 3)).astype(np.float32), rng.integers(0, 10, 16)
    names = ("approx", "zero", "pooled")
    methods = [*map(make, names), make("approx", k=3), make("approx", scale="paper")]
    cells = tuple((number, method) for number in (1, 2) for method in methods)
    measure = jax.jit(lambda params: probe.measure(task, cells, params, {}, x, labels, jax.random.key(1)))
    found = np.asarray(measure(params))

    parts = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    first, second = (conv_shape(shape, *rest) for shape, *rest in [
        ((16, 8, 8, 3), 5, (3, 3)), ((16, 8, 8, 5), 4, (3, 3), (2, 2))
    ])  # fmt: skip
    one = convolve(x.astype(np.float64), parts["one"]["kernel"], first) + parts["one"]["bias"]
    hidden = np.maximum(one, 0)
    two = convolve(hidden, parts["two"]["kernel"], second)
    logits = np.maximum(two, 0).reshape(16, -1) @ parts["logits"]["kernel"] + parts["logits"]["bias"]
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[np.arange(16), labels] -= 1
    dy_two = (p / 16 @ parts["logits"]["kernel"].T).reshape(two.shape) * (two > 0)
    dy_one = input_gradient(dy_two, parts["two"]["kernel"], second) * (one > 0)
    by_layer = {1: (x, dy_one, first), 2: (hidden, dy_two, second)}
    oracle = np.array([expected(method, *by_layer[number]) for number, method in cells])
    np.testing.assert_allclose(found, oracle, rtol=2e-4, atol=1e-5)
    assert (oracle[:5, 3] >= 0.2).all()  # a dead channel of five
    assert oracle[:5, 2].min() > 0.05
    assert oracle[1].tolist() == [0, 0, *oracle[0, 2:]]  # zero
    np.testing.assert_allclose(found[4, :2], found[0, :2] / [1, 16], rtol=1e-5)  # the paper's scale is 1/batch


def test_planted_planes_are_counted():
    dy = np.zeros((2, 2, 2, 3), np.float32)
    dy[0, :, :, 0] = [[1, 2], [3, -4]]  # sum 2, largest −4: disagree
    dy[0, :, :, 1] = [[1, -2], [2, 0]]  # of equal ones the first is −2, sum 1: disagree
    dy[0, :, :, 2] = [[2, -2], [0, 1]]  # the first is 2, sum 1: agree
    dy[1, :, :, 0] = [[1, -1], [0, 0]]  # sum 0 has the sign of neither
    dy[1, :, :, 1] = [[0, 0], [-1e-30, 0]]  # small is not dead
    found = probe.planes(jnp.asarray(dy))
    np.testing.assert_allclose(found, [3 / 5, 1 / 6], rtol=1e-6)
    none_alive = probe.planes(jnp.zeros((2, 2, 2, 3)))
    assert math.isnan(none_alive[0])
    assert none_alive[1] == 1


def test_what_a_cosine_and_a_ratio_are_at_the_edges():
    vector, nothing = jnp.asarray([[3.0, -4.0]]), jnp.zeros((1, 2))
    assert [float(v) for v in probe.alignment(-2 * vector, vector)] == [-1, 2]
    assert [float(v) for v in probe.alignment(nothing, vector)] == [0, 0]
    assert np.isnan(probe.alignment(vector, nothing)).all()
    assert np.isnan(probe.alignment(nothing, nothing)).all()
    assert np.isnan(probe.alignment(vector * jnp.nan, vector)).all()
    tiny = jnp.asarray([[4e-30, 3e-30]])  # whose squares are zero in float32
    assert [float(v) for v in probe.alignment(tiny, vector * 1e-30)] == pytest.approx([0, 1], abs=1e-6)


def test_the_gradients_are_those_of_the_step_with_its_batch_and_its_key(assemble, pocket):
    def gradients(bench) -> list[np.ndarray]:
        """Of layers 1 to 3 in the first step, after which Adam's first moment is 0.1 of them."""
        moments = bench.run(1)[0][1].opt_state[0].mu
        return [moments[layer.path]["kernel"].astype(np.float64).ravel() / 0.1 for layer in pocket.layers]

    bench = assemble(pocket, ONE_COLUMN)
    look = probe.Probe(bench.dispatch, 1, [0], Listener())
    found = look(look.due(0, 1), bench.state, bench.images, bench.order)
    assert [(row["layer"], row["path"], row["method"]) for row in found] == [
        (1, "first", "pooled"),
        (2, "second", "random"),
        (3, "third", "approx"),
    ]
    full = gradients(assemble(pocket, {"name": "full"}))
    for row, ours, exact in zip(found, gradients(bench), full, strict=True):
        norms = np.linalg.norm(ours), np.linalg.norm(exact)
        assert row["cosine"] == pytest.approx(ours @ exact / (norms[0] * norms[1]), abs=1e-5)
        assert row["norm_ratio"] == pytest.approx(norms[0] / norms[1], rel=1e-5)


def test_in_bfloat16_it_sees_what_the_estimators_see(assemble, pocket):
    def figures(precision: str) -> np.ndarray:
        bench = assemble(pocket, ONE_COLUMN, precision=precision)
        look = probe.Probe(bench.dispatch, 1, [0], Listener())
        found = look(look.due(0, 1), bench.state, bench.images, bench.order)
        return np.array([[row[name] for name in probe.FIGURES] for row in found])

    exact, rounded = figures("float32"), figures("bfloat16")
    assert (exact != rounded).any()
    np.testing.assert_allclose(rounded, exact, atol=0.1, rtol=0.1)


@pytest.mark.parametrize(
    ("schedule", "every", "chunk", "expected"),
    [
        # steps 0, 2, 4 … approximate; a window of 5 begins on either
        (ALTERNATING, 4, 1, {0: "AA", 4: "AA", 8: "AA"}),
        (ALTERNATING, 5, 1, {0: "AA", 6: "AA", 10: "AA"}),
        (ALTERNATING, 100, 1, {0: "AA"}),
        # columns 0 (full), 1 and 2 in turns: a multiple of their period finds both
        (THREE_COLUMNS, 6, 1, {1: "AR", 2: "ZA", 7: "AR", 8: "ZA"}),
        (THREE_COLUMNS, 1, 1, {1: "AR", 2: "ZA", 4: "AR", 5: "ZA", 7: "AR", 8: "ZA", 10: "AR", 11: "ZA"}),
        # calls are of steps 0–3, 4, 5, 6–9, 10, 11: the cells of a call are found where it begins, and once
        (THREE_COLUMNS, 6, 4, {0: "ZAR", 6: "ZAR"}),
        (THREE_COLUMNS, 4, 4, {0: "ZAR", 4: "AR", 5: "ZA", 6: "ZA", 10: "AR"}),
    ],
)
def test_each_column_is_probed_at_its_first_step_of_a_window(schedule, every, chunk, expected, assemble, pocket):
    dispatch = assemble(pocket, schedule, mode="switch", chunk=chunk).dispatch
    look, step, found = probe.Probe(dispatch, every, [0], Listener()), 0, {}
    while step < 12:
        if cells := look.due(step, dispatch.span(step)):
            found[step] = "".join(method.name[0].upper() for _, method in cells)
        step += dispatch.span(step)
    assert found == expected


@pytest.mark.parametrize("chunk", [1, 3])
def test_a_run_with_probes_is_bit_for_bit_the_run_without_and_its_steps_the_same_programs(
    chunk, tmp_path, small, configure, monkeypatch
):
    texts, note = [], Note()

    as_it_is = jax.stages.Lowered.compile

    def compiled(lowered, *options, **named):
        texts.append(lowered.as_text())
        return as_it_is(lowered, *options, **named)

    monkeypatch.setattr(jax.stages.Lowered, "compile", compiled)
    schedule = TWO_COLUMNS | {"dispatch": "switch" if chunk > 1 else "host"}
    off, on = (configure(schedule, epochs=2, chunk=chunk, probe_every=every) for every in (None, 6))
    start(tmp_path / "off", off)
    plain, texts = texts, []
    start(tmp_path / "on", on, note)
    assert final_state(tmp_path / "on", on) == final_state(tmp_path / "off", off)
    lines = (tmp_path / "on" / record.METRICS).read_text().splitlines()
    steps = [line for line in lines if '"kind": "probe"' not in line]
    assert steps == (tmp_path / "off" / record.METRICS).read_text().splitlines()

    # step 1 is looked at before the second probe, whose time would be its own otherwise
    assert note.probes == ([(0, 2), (1, 1)] if chunk == 1 else [(0, 3)])
    assert len(plain) == (2 if chunk == 1 else 1) + 1  # the steps, and the validation
    assert [text for text in texts if text in plain] == plain
    assert len(texts) == len(plain) + len(note.probes)

    found = [(row["epoch"], row["step"], row["layer"], row["method"]) for row in rows(tmp_path / "on", "probe")]
    in_call = 2 if chunk == 1 else 1  # the second column's own step, or where the call begins that holds it
    window = [(1, 1, "zero"), (1, 2, "approx"), (in_call, 2, "zero")]
    assert found == [(epoch, step + 6 * (epoch - 1), *cell) for epoch in (1, 2) for step, *cell in window]


def test_a_run_that_breaks_off_and_goes_on_leaves_the_same_rows(tmp_path, small, configure):
    config = configure(TWO_COLUMNS, epochs=2, checkpoint_every=6, probe_every=6)
    note = Note(crash_after=8)
    with pytest.raises(Crash):
        start(tmp_path / "run", config, note)
    # the probes of the steps after the checkpoint of step 6 are taken again
    assert sorted({row["step"] for row in rows(tmp_path / "run", "probe")}) == [1, 2, 7, 8]
    with RunFolder.open(tmp_path / "run") as folder:
        Run(config, folder, Listener()).train()
    start(tmp_path / "whole", config)
    assert (tmp_path / "run" / record.METRICS).read_bytes() == (tmp_path / "whole" / record.METRICS).read_bytes()
    assert len(rows(tmp_path / "run", "probe")) == 2 * 3


def test_of_several_seeds_each_has_its_rows(assemble, pocket):
    def found(own: list[int], **train) -> list[dict]:
        bench = assemble(pocket, ONE_COLUMN, seed=own[0], **train)
        look = probe.Probe(bench.dispatch, 1, own, Listener())
        return look(look.due(0, 1), bench.state, bench.images, bench.order)

    together = found([3, 4], seeds=2, seeds_by="map")
    assert [(row["seed"], row["layer"]) for row in together] == [(seed, n) for seed in (3, 4) for n in (1, 2, 3)]
    for row, alone in zip(together, found([3]) + found([4]), strict=True):
        assert row.keys() - alone.keys() == {"seed"}
        assert [row[name] for name in probe.FIGURES] == pytest.approx([alone[name] for name in probe.FIGURES], abs=1e-4)


def test_a_schedule_that_approximates_nothing_earns_a_warning_and_no_row(tmp_path, small, configure):
    note = Note()
    start(tmp_path / "run", configure({"name": "full"}, epochs=1, probe_every=1), note)
    assert note.warnings == ["train.probe_every=1 has no effect: the schedule approximates no layer."]
    assert rows(tmp_path / "run", "probe") == note.probes == []
