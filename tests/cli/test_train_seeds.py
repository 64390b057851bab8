"""`approxtrain train` with several seeds: what it says."""

from __future__ import annotations

import re


def test_of_several_seeds_lines_show_mean_and_standard_deviation(call, small, images, drawn_curves, tmp_path):
    seeds = ["train.seeds=3", "train.seed=4", "train.epochs=1", "schedule.method=zero"]
    ended = call("train", "quickstart", *images, *seeds, "--out", tmp_path / "run")
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert [line for line in lines if line.startswith("steps")] == ["steps     5 in 1 epochs of seeds 4 to 6 at once"]
    percent = r"\d+\.\d\d% ± \d+\.\d\d%"
    (epoch,) = (line for line in lines if line.startswith("epoch"))
    loss = r"loss \d+\.\d{4} ± \d+\.\d{4}"
    assert re.fullmatch(rf"epoch 1 of 1  {loss}  training {percent}  validation {percent}  [\d,]+ images/s", epoch)
    (accuracy,) = (line for line in lines if line.startswith("accuracy"))
    last = rf"accuracy  final {percent}, best {percent}, mean ± sd of seeds 4 to 6, on mine \(test\)"
    assert re.fullmatch(last, accuracy)
    assert (tmp_path / "run" / "curves.png").stat().st_size > 1000
