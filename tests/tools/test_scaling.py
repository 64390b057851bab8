"""The model of many devices: its limits, which are known, and the page that is rendered of it."""

from __future__ import annotations

import pytest

from approxtrain import models
from tools import scaling

RESNET, RATE = models.get("resnet50"), 2800.0
NAMED = scaling.schedules(RESNET)
FAST = scaling.Cluster("", 8, 1e18, 256)
SLOW = scaling.Cluster("", 8, 1e6, 256)


@pytest.fixture(autouse=True)
def no_latency(monkeypatch):
    monkeypatch.setattr(scaling, "LATENCY", 0.0)


def test_on_a_link_without_end_an_exact_step_is_as_on_one_device():
    found = scaling.step(RESNET, NAMED["exact"], FAST, RATE)
    assert found.seconds == pytest.approx(256 / RATE)
    assert found.without_overlap == pytest.approx(256 / RATE)
    assert found.sent == 4 * RESNET.parameters


def test_on_one_that_is_slow_it_is_as_long_as_the_sending():
    found = scaling.step(RESNET, NAMED["exact"], SLOW, RATE)
    sending = 2 * 7 / 8 * 4 * RESNET.parameters / 1e6
    assert sending < found.seconds < sending + 256 / RATE
    assert found.without_overlap == pytest.approx(sending + 256 / RATE)


@pytest.mark.parametrize(("name", "share"), [("`pooled`, all but the first layer", 0.0), ("exact", 0.0)])
def test_what_sends_all_saves_nothing_there(name, share):
    exact, found = (scaling.step(RESNET, NAMED[each], SLOW, RATE) for each in ("exact", name))
    assert 1 - found.seconds / exact.seconds == pytest.approx(share, abs=1e-3)


def test_what_is_not_sent_is_the_parameters_of_the_layers_at_their_share_of_the_steps():
    found = scaling.step(RESNET, NAMED["last stage `zero` at 3 of 4 steps"], SLOW, RATE)
    import math

    stage = sum(math.prod(layer.shape.w_shape) for layer in RESNET.layers if layer.path.startswith("stage4/"))
    assert found.sent == pytest.approx(4 * (RESNET.parameters - 0.75 * stage))


def test_layers_that_rotate_save_what_the_slowest_leaves_out_and_send_all():
    name = "a quarter of the layers `zero`, on each device another, in turn"
    exact, found = (scaling.step(RESNET, NAMED[each], FAST, RATE) for each in ("exact", name))
    flops = [layer.shape.flops for layer in RESNET.layers]
    convolutions = (1 - scaling.OUTSIDE) * exact.seconds / (3 * sum(flops) - flops[0])
    least = min(sum(flops[number::4]) for number in range(4))
    # every gradient waits for the slowest device, and the last one for the one that has left out least
    assert exact.seconds - found.seconds == pytest.approx(least * convolutions)
    assert found.sent == exact.sent


def test_local_steps_send_weights_and_momentum_at_one_step_in_ten():
    found = scaling.step(RESNET, NAMED["local SGD, a mean at every 10th step"], SLOW, RATE)
    assert found.sent == pytest.approx(4 * RESNET.parameters * 2 / 10)
    assert found.seconds == pytest.approx(256 / RATE + 2 * 7 / 8 * found.sent / 1e6)


def test_a_frozen_prefix_saves_its_wgrads_and_dgrads_at_its_share_of_the_steps():
    exact, found = (
        scaling.step(RESNET, NAMED[each], FAST, RATE).seconds
        for each in ("exact", "stem to stage 2 frozen at every 2nd step")
    )
    flops = [layer.shape.flops for layer in RESNET.layers]
    backward = 2 * sum(flops[:24]) - flops[0] + flops[24]  # and the dgrad of the layer above, which nobody reads
    convolutions = (1 - scaling.OUTSIDE) * exact / (3 * sum(flops) - flops[0])
    assert exact - found == pytest.approx(0.5 * backward * convolutions)


def test_the_page_is_what_is_rendered(monkeypatch):
    monkeypatch.undo()
    assert scaling.PART.shown == scaling.page()
