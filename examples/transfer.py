# %% [markdown]
# # From infinite width to a network that you can train
#
# Ten images are distilled with the kernel of an infinitely wide network; then networks of finite
# width are trained on nothing but these ten, and tested. Here with scikit-learn's handwritten
# digits, 8x8 pixels, and small networks. The same file runs as a script and, cell by cell, in
# editors that know `# %%`.

# %%
import json
import pathlib
import subprocess
import sys

import numpy as np
from sklearn.datasets import load_digits

import kipper

digits = load_digits()
images = (digits.images / 16).astype(np.float32)

# %% [markdown]
# Labels are left as they are: finite networks profit little from learned ones (arXiv 2107.13034,
# section 4).

# %%
result = kipper.distill(
    images[:1437],
    digits.target[:1437],
    images[1437:],
    digits.target[1437:],
    workdir="runs/digits",
    architecture="fc2",
    steps=80,
)
print(f"by kernel regression: natural {result.natural_accuracy:.1%}, ", end="")
print(f"distilled {result.test_accuracy:.1%}")

# %% [markdown]
# `kipper transfer` trains the network of the same layers, by gradient descent with momentum at the
# largest stable learning rate. It prints JSON and leaves `figures/transfer.png` with the curves.

# %%
command = [
    *(sys.executable, "-m", "kipper", "transfer"),
    f"--distilled={result.workdir / 'distilled.npz'}",
    "--width=256",
    "--steps=1500",
    "--seeds=2",
]
finished = subprocess.run(command, check=True, capture_output=True, text=True)
transferred = json.loads(finished.stdout)
print(
    f"by networks: {transferred['test_accuracy']:.1%} ± {transferred['test_accuracy_spread']:.1%}"
)
print("look at", pathlib.Path("runs/digits/figures/transfer.png").resolve())
