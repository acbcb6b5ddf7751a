# %% [markdown]
# # From infinite width to a network that you can train
#
# This example distills ten images with the kernel of an infinitely wide network, then trains finite
# networks on these ten alone and tests them. It uses scikit-learn's handwritten digits, 8x8 pixels,
# and small networks.

# %%
# Installs kipper where it is missing, as on Colab: from a wheel beside this notebook
# (upload the one that `make wheel` builds), else from the repository around it.
import importlib.util
import pathlib
import subprocess
import sys

if importlib.util.find_spec("kipper") is None:
    source = str(next(pathlib.Path().glob("kipper-*.whl"), ".."))
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", source], check=True)

# %%
import numpy as np
from sklearn.datasets import load_digits

import kipper

digits = load_digits()
images = (digits.images / 16).astype(np.float32)

# %% [markdown]
# Labels stay fixed: finite networks gain little from learned ones (arXiv 2107.13034, section 4).

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
# `transfer` trains finite networks with the same layers, by gradient descent with momentum at the
# largest stable learning rate, and writes their curves to `figures/transfer.png`; `kipper transfer`
# does so from files.

# %%
transferred = result.transfer(width=256, steps=1500, seeds=2)
print(
    f"by networks: {transferred['test_accuracy']:.1%} ± {transferred['test_accuracy_spread']:.1%}"
)
print("look at", pathlib.Path("runs/digits/figures/transfer.png").resolve())
