# %% [markdown]
# # Distil your own images
#
# Arrays in, ten synthetic images with learned labels out. Here the arrays are scikit-learn's
# handwritten digits, 8x8 pixels; put yours in their place. The same file runs as a script and,
# cell by cell, in editors that know `# %%`.

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
# Every flag of `kipper distill` is a keyword. Images with pooling kernels, such as
# `architecture="convnet"`, take longer and distil better; colour images profit from
# `preprocess="zca"`. With `workdir="runs/mine"` the same call resumes what is there.

# %%
result = kipper.distill(
    x_train, y_train, x_test, y_test, support_size=10, learn_labels=True, steps=80
)
print(f"ten natural images {result.natural_accuracy:.1%}, distilled {result.test_accuracy:.1%}")

# %% [markdown]
# `images` are in the preprocessed space that kernels see, `pixels` in that of your arrays. Labels
# are real numbers now: here is how much of each class is in the image that started as a three.

# %%
print("images", result.images.shape, "pixels", result.pixels.shape, "labels", result.labels.shape)
print("the three:", ", ".join(f"{share:+.2f}" for share in result.labels[3]))

# %% [markdown]
# All files are in the workdir: figures, metrics by step, and `distilled.npz` with
# `preprocessing.npz`, which belong together.

# %%
print("look at", result.workdir / "figures" / "distilled.png")
print(f"kipper evaluate --distilled={result.workdir / 'distilled.npz'} --natural=10,100,1000")
