# %% [markdown]
# # Distill your own images
#
# This example turns arrays into ten synthetic images with learned labels. The arrays are
# scikit-learn's handwritten digits, 8x8 pixels; replace them with yours. Run the file as a script,
# or cell by cell in an editor that supports `# %%`.

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
# Every flag of `kipper distill` is a keyword. Pooling kernels such as `architecture="convnet"` take
# longer and distill better; `preprocess="zca"` helps with colour images. With `workdir="runs/mine"`
# the same call resumes the run in that folder.

# %%
result = kipper.distill(
    x_train, y_train, x_test, y_test, support_size=10, learn_labels=True, steps=80
)
print(f"ten natural images {result.natural_accuracy:.1%}, distilled {result.test_accuracy:.1%}")

# %% [markdown]
# `images` are in the preprocessed space that kernels use, `pixels` in the space of your arrays.
# Labels are real numbers: those of the image that started as a three show its share of each class.

# %%
print("images", result.images.shape, "pixels", result.pixels.shape, "labels", result.labels.shape)
print("the three:", ", ".join(f"{share:+.2f}" for share in result.labels[3]))

# %% [markdown]
# The workdir, here a temporary one, holds figures, metrics by step, and `distilled.npz` with its
# `preprocessing.npz`. `save` keeps all of it, and `kipper.load("runs/own")` reads it again.

# %%
print("look at", result.save("runs/own") / "figures" / "distilled.png")
print(result.natural([10, 100, 1000]).record()["finding"])
