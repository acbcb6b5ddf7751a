# %% [markdown]
# # Kernels only
#
# `kipper.kernel` computes the exact kernel of an infinitely wide network between arrays of images,
# and `kipper.kernel_vjp` pulls a gradient back through it to the images. This example uses them for
# kernel regression and for distillation by hand.

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
import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import kipper

digits = load_digits()
images = (digits.images - digits.images.mean()) / digits.images.std()
targets = np.eye(10)[digits.target] - 0.1  # centred one-hot labels
x_train, y_train = images[:1000], targets[:1000]
x_test, y_test, classes = images[1437:], targets[1437:], digits.target[1437:]

# %% [markdown]
# ## Kernel ridge regression with a convolutional network of infinite width

# %%
RIDGE = 1e-6


@jax.jit
def predict(k_ts, k_ss, labels):
    """Predictions (t, 10) from K (t, n), K (n, n) and labels (n, 10)."""
    ridge = RIDGE * jnp.trace(k_ss) / len(k_ss)
    return k_ts @ jnp.linalg.solve(k_ss + ridge * jnp.eye(len(k_ss)), labels)


natural = x_train[:300]
k_ss = kipper.kernel(natural, architecture="convnet")
k_ts = kipper.kernel(x_test, natural, architecture="convnet")
accuracy = float(np.mean(np.argmax(predict(k_ts, k_ss, y_train[:300]), axis=1) == classes))
print(f"300 natural images: {accuracy:.1%}")

# %% [markdown]
# ## Ten images, by gradient descent
#
# The loss is a function of two kernel matrices, and JAX differentiates it with respect to them.
# `kernel_vjp` pulls both derivatives back to the images. K_ss depends on the images through both
# arguments.


# %%
def loss(k_ss, k_ts):
    """Half the mean squared error of the training labels predicted from the support."""
    return 0.5 * jnp.mean((predict(k_ts, k_ss, support_labels) - y_train) ** 2)


def support_accuracy(support):
    """Accuracy on the test images."""
    k_ss = kipper.kernel(support, architecture="fc2")
    k_ts = kipper.kernel(x_test, support, architecture="fc2")
    return float(np.mean(np.argmax(predict(k_ts, k_ss, support_labels), axis=1) == classes))


support = np.concatenate([x_train[digits.target[:1000] == c][:1] for c in range(10)])
support_labels = np.eye(10) - 0.1
loss_gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
natural_accuracy = support_accuracy(support)
for _ in range(60):
    k_ss = kipper.kernel(support, architecture="fc2")
    k_ts = kipper.kernel(x_train, support, architecture="fc2")
    of_k_ss, of_k_ts = loss_gradient(k_ss, k_ts)
    _, left, right = kipper.kernel_vjp(support, support, of_k_ss, architecture="fc2")
    _, _, through_targets = kipper.kernel_vjp(x_train, support, of_k_ts, architecture="fc2")
    gradient = left + right + through_targets
    support = support - 0.02 * np.sign(gradient)
distilled_accuracy = support_accuracy(support)
print(f"ten natural images {natural_accuracy:.1%}, after 60 steps {distilled_accuracy:.1%}")
