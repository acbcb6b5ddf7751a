# %% [markdown]
# # Exact kernels in scikit-learn
#
# `kipper.kernel` gives scikit-learn's estimators the exact kernel of an infinitely wide network,
# as a precomputed matrix. This example compares a convolutional one with the usual Gaussian kernel
# on few handwritten digits.

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
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

import kipper

digits = load_digits()
images = (digits.images - digits.images.mean()) / digits.images.std()  # (N, height, width)
x_train, y_train = images[:300], digits.target[:300]
x_test, y_test = images[1000:], digits.target[1000:]

# %% [markdown]
# ## The kernel matrices
#
# One call for the training images among themselves, one for the test images with them. `convnet` is
# a convolution with ReLU, then three times convolution, ReLU and average pooling.

# %%
k_train = kipper.kernel(x_train, architecture="convnet")  # (300, 300) float64
k_test = kipper.kernel(x_test, x_train, architecture="convnet")  # (797, 300) float32
print(k_train.shape, k_train.dtype, k_test.shape, k_test.dtype)

# %% [markdown]
# Sorted by digit, the matrix shows the classes as blocks. It is scaled to a diagonal of ones.

# %%
by_class = np.argsort(y_train, kind="stable")
scale = 1 / np.sqrt(np.diagonal(k_train))
figure, axes = plt.subplots(figsize=(4.5, 3.6), layout="constrained")
shown = axes.imshow((scale[:, None] * k_train * scale)[np.ix_(by_class, by_class)], "viridis")
middles = [np.flatnonzero(y_train[by_class] == digit).mean() for digit in range(10)]
axes.set(xticks=middles, yticks=middles, xticklabels=range(10), yticklabels=range(10))
figure.colorbar(shown, label="correlation under the NTK")
figure.savefig("kernel.png")

# %% [markdown]
# ## Support vector machine
#
# With `kernel="precomputed"`, scikit-learn's `SVC` takes the matrices instead of images. Grid
# search and cross-validation cut both axes of the matrix themselves.

# %%
grid = {"C": [1, 10, 100, 1000, 10_000]}
exact = GridSearchCV(SVC(kernel="precomputed"), grid, cv=3).fit(k_train, y_train)
gaussian = GridSearchCV(SVC(kernel="rbf"), grid, cv=3).fit(x_train.reshape(300, -1), y_train)
svc_accuracy = exact.score(k_test, y_test)
gaussian_accuracy = gaussian.score(x_test.reshape(len(x_test), -1), y_test)
print(f"SVC, convnet {svc_accuracy:.1%}, Gaussian kernel {gaussian_accuracy:.1%}")

# %% [markdown]
# ## Kernel ridge regression
#
# `KernelRidge` on centred one-hot labels is what kipper itself predicts by. Its `alpha` is
# absolute, kipper's `ridge` is relative to the mean of the diagonal.

# %%
targets = np.eye(10)[y_train] - 0.1
alpha = 1e-6 * np.trace(k_train) / len(k_train)
model = KernelRidge(alpha=alpha, kernel="precomputed").fit(k_train, targets)
ridge_accuracy = float(np.mean(model.predict(k_test).argmax(axis=1) == y_test))
print(f"KernelRidge, convnet {ridge_accuracy:.1%}")

# %% [markdown]
# ## How many images does it take?
#
# Rows and columns of one matrix serve all sizes.


# %%
def accuracy_of(model: KernelRidge, train: np.ndarray, test: np.ndarray) -> float:
    """The share of test images whose class a regression on the first training images predicts."""
    outputs = model.fit(train, targets[: len(train)]).predict(test)
    return float(np.mean(outputs.argmax(axis=1) == y_test))


exact_ridge = KernelRidge(alpha=alpha, kernel="precomputed")
gaussian_ridge = KernelRidge(alpha=1e-6, kernel="rbf", gamma=1 / 64)
rows_train, rows_test = x_train.reshape(300, -1), x_test.reshape(len(x_test), -1)
sizes = [10, 20, 50, 100, 200, 300]
curves = {
    "convnet, NTK": [accuracy_of(exact_ridge, k_train[:n, :n], k_test[:, :n]) for n in sizes],
    "Gaussian": [accuracy_of(gaussian_ridge, rows_train[:n], rows_test) for n in sizes],
}

figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
for name, accuracies in curves.items():
    axes.plot(sizes, [100 * accuracy for accuracy in accuracies], "o-", label=name)
axes.set(xscale="log", xlabel="training images", ylabel="test accuracy (%)", xticks=sizes)
axes.set_xticklabels(map(str, sizes))
axes.minorticks_off()
axes.legend()
figure.savefig("accuracies.png")
