# %% [markdown]
# # Distill your own images
#
# This example turns arrays into ten synthetic images with learned labels, then does with them all
# that a result can do: measure, predict, train a network, export, save and load. The arrays are
# scikit-learn's handwritten digits, 8x8 pixels; replace them with yours.

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
images = (digits.images / 16).astype(np.float32)  # (N, height, width), or (…, channels)
labels = digits.target  # integers from 0
x_train, y_train = images[:1437], labels[:1437]
x_test, y_test = images[1437:], labels[1437:]

# %% [markdown]
# ## Distill
#
# Every flag of `kipper distill` is a keyword. Pooling kernels such as `architecture="convnet"` take
# longer and distill better; `preprocess="zca"` helps with colour images. With `workdir="runs/mine"`
# the same call resumes the run in that folder. A notebook shows the images as they form.

# %%
result = kipper.distill(
    x_train, y_train, x_test, y_test, support_size=10, learn_labels=True, steps=80
)

# %% [markdown]
# `images` are in the preprocessed space that kernels use, `pixels` in the space of your arrays.
# Labels are real numbers: those of the image that started as a three show its share of each class.

# %%
print(f"ten natural images {result.natural_accuracy:.1%}, distilled {result.test_accuracy:.1%}")
print("images", result.images.shape, "pixels", result.pixels.shape, "labels", result.labels.shape)
print("the three:", ", ".join(f"{share:+.2f}" for share in result.labels[3]))

# %%
figure = result.plot()
figure.savefig("distilled.png")
figure

# %%
result.plot("curve")

# %% [markdown]
# ## Evaluate and predict
#
# `evaluate` measures the set again, here on the test images of the run; other images and labels
# may be given. `natural` finds how many natural images would do as well.

# %%
print(result.evaluate())
natural = result.natural([10, 100, 1000])
print(natural.record()["finding"])

# %%
predicted = result.predict(x_test)
wrong = np.flatnonzero(predicted != y_test)
values = result.decision_values(x_test[wrong])  # (n, C); the largest is at the predicted class
print(f"{len(wrong)} of {len(y_test)} test images are taken for another digit:")
for row, shares in list(zip(wrong, values, strict=True))[:3]:
    right, taken = shares[y_test[row]], shares.max()
    print(f"{row}: label {y_test[row]} ({right:.2f}), predicted {predicted[row]} ({taken:.2f})")

# %% [markdown]
# ## Train a network on the set
#
# `transfer` trains finite networks with the kernel's layers on the ten images alone, here a narrow
# one. transfer.py, beside this file, says more about them.

# %%
transferred = result.transfer(width=64, steps=300, seeds=1, l2=0.01)
print(f"a network of width 64 reaches {transferred['test_accuracy']:.1%}")

# %% [markdown]
# ## Keep it
#
# `save` writes the set with its preprocessing, which `kipper.load` reads. Given a new folder, as in
# `result.save("runs/own")`, it keeps all of the run: figures, report, metrics by step, checkpoints.
# `export` writes files for other programs.

# %%
result.save("own.npz")
result.export("safetensors", "own.safetensors")
again = kipper.load("own.npz")
assert np.array_equal(again.predict(x_test), predicted)
print("look at distilled.png, of the set in own.npz and own.safetensors")
again
