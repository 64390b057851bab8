#!/usr/bin/env bash
# A user's own network on their own images with an installed approxtrain: trained, killed, gone on with bit for bit,
# evaluated, exported, and loaded back with the same predictions. Run in an empty folder: tools/try_own.sh BIN
set -euo pipefail
bin=$1

cat > nets.py << 'NET'
from flax import nnx


class PetNet(nnx.Module):
    def __init__(self, num_classes: int, width: int = 8, *, rngs: nnx.Rngs):
        self.conv1 = nnx.Conv(3, width, (5, 5), strides=2, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.conv2 = nnx.Conv(width, 2 * width, (3, 3), strides=2, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.head = nnx.Linear(2 * width, num_classes, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.norm(self.conv1(x))), (2, 2), (2, 2))
        return self.head(self.dropout(nnx.relu(self.conv2(x)).mean((1, 2))))
NET
cat > mine.toml << 'CONFIG'
[model]
target = "nets:PetNet"
arguments = { width = 12 }
[data]
dir = "pets"
[train]
epochs = 6
batch_size = 32
validate_every = 1
checkpoint_every = 1
[optimizer]
name = "sgd"
learning_rate = 0.05
nesterov = true
weight_decay = 5e-4
rate = "cosine"
warmup = 1
[[schedule.rules]]
method = "approx"
layers = [2]
steps = { every = 2 }
CONFIG
"$bin/python" - << 'IMAGES'
import numpy as np
from pathlib import Path
from PIL import Image

rng = np.random.default_rng(0)
for split, count in (("train", 64), ("val", 20)):
    for number, name in enumerate(("cat", "dog", "hen")):
        Path("pets", split, name).mkdir(parents=True)
        for image in range(count):
            pixels = rng.integers(0, 160, (96, 96, 3), dtype=np.uint8)
            pixels[..., number] += 60
            Image.fromarray(pixels).save(f"pets/{split}/{name}/{image}.png")
IMAGES
"$bin/approxtrain" train mine.toml --out whole > /dev/null
"$bin/approxtrain" train mine.toml --out killed > /dev/null &
while [ "$(ls killed/checkpoints 2> /dev/null | tail -n 1)" \< "step-00000008" ]; do sleep 0.1; done
kill -9 $!
wait $! 2> /dev/null || true
"$bin/approxtrain" train --resume killed > /dev/null
cmp whole/metrics.jsonl killed/metrics.jsonl
"$bin/approxtrain" evaluate killed
"$bin/approxtrain" predict killed pets/val/hen > seen.txt
test "$(grep -c ' hen ' seen.txt)" = 20 || { echo "error: not every hen was seen as one" >&2; cat seen.txt >&2; exit 1; }
"$bin/approxtrain" export killed --out mine.safetensors
"$bin/python" - << 'CHECK'
import json

import approxtrain
import numpy as np
from flax import nnx
from nets import PetNet
from PIL import Image
from safetensors import safe_open

whole, killed = (approxtrain.load_run(folder, which="last") for folder in ("whole", "killed"))
assert whole.step == killed.step
assert all(np.array_equal(whole.arrays[name], killed.arrays[name]) for name in whole.arrays | killed.arrays)

with safe_open("mine.safetensors", "numpy") as file:
    facts = {name: json.loads(value) for name, value in file.metadata().items()}
    graph, state = nnx.split(PetNet(len(facts["classes"]), **facts["arguments"], rngs=nnx.Rngs(0)))
    stored = set(file.keys())
    named = [(path, variable, ".".join(map(str, path))) for path, variable in nnx.to_flat_state(state)]
    arrays = {p: v.replace(file.get_tensor(name)) if name in stored else v for p, v, name in named}
network = nnx.merge(graph, nnx.from_flat_state(arrays))
network.eval()
images = np.stack([np.asarray(Image.open(f"pets/val/{name}/0.png")) for name in facts["classes"]])
logits = network((images - np.float32(facts["mean"])) / np.float32(facts["std"]))
np.testing.assert_allclose(nnx.softmax(logits), approxtrain.load_run("killed").predict(images), rtol=1e-4, atol=1e-5)
assert nnx.softmax(logits).argmax(1).tolist() == [0, 1, 2], "it has not learnt what the classes are"
CHECK
