"""Published figures, each with the kipper command that reproduces it: the rows of `reproduce.py`.

Sources: [ICLR] "Dataset Meta-Learning from Kernel Ridge-Regression" (arXiv 2011.00050) and the
stored outputs of its notebook; [NeurIPS] "Dataset Distillation with Infinitely Wide Convolutional
Networks" (arXiv 2107.13034), table 1 of the submission; [released] the table of the data released
with it. Figures of [ICLR] are those that table 1 of [NeurIPS] quotes. For most rows augmentation,
step count and learning rate are not published; short runs chose the values here.
"""

import dataclasses
from collections.abc import Iterator


@dataclasses.dataclass(frozen=True)
class Row:
    """A published figure, and the command that reproduces it.

    Attributes:
        name: the name of the row and of its folder.
        title: algorithm, kernel, data set and size.
        accuracy: the published accuracy in per cent, as printed.
        loss: half the published mean squared error, as printed ("test_mse" in the released
            tables); "" if none was published.
        source: the source of both.
        command: kipper's arguments, without workdir, seed and data folder.
        seeds: the seeds of the draws of natural support images that the row averages.
        of: the name of the row whose distilled sets this one uses; "" if it makes its own.
    """

    name: str
    title: str
    accuracy: str
    source: str
    command: tuple[str, ...]
    loss: str = ""
    seeds: tuple[int, ...] = (0, 1, 2)
    of: str = ""

    @property
    def dataset(self) -> str:
        prefix = "--dataset="
        return next(flag[len(prefix) :] for flag in self.command if flag.startswith(prefix))


def _label_solve() -> Iterator[Row]:
    """The released table of Label Solve, ConvNet."""
    for dataset, preprocess, size, accuracy, loss in (
        ("mnist", "standard", 10, "73.35", "0.027602"),
        ("mnist", "standard", 100, "96.39", "0.009460"),
        ("mnist", "standard", 500, "98.28", "0.005096"),
        ("cifar10", "zca", 10, "26.09", "0.042288"),
        ("cifar10", "zca", 100, "53.59", "0.034978"),
        ("cifar10", "zca", 500, "65.89", "0.029552"),
        ("cifar10", "standard", 10, "26.29", "0.042285"),
        ("cifar10", "standard", 100, "46.26", "0.036484"),
        ("cifar10", "standard", 500, "57.37", "0.032066"),
    ):
        whitened = {"zca": "_zca", "standard": ""}[preprocess]
        yield Row(
            name=f"ls_convnet_{dataset}{whitened}_{size}",
            title=f"LS, ConvNet, {_TITLES[dataset]}{', ZCA' if whitened else ''}, {size} images",
            accuracy=accuracy,
            loss=loss,
            source="released",
            command=(
                "solve_labels",
                f"--dataset={dataset}",
                f"--preprocess={preprocess}",
                "--architecture=convnet",
                f"--support_size={size}",
            ),
        )


_TITLES = {"mnist": "MNIST", "cifar10": "CIFAR-10"}


def _kip_convnet(dataset: str, preprocess: str, steps: int, rate: float) -> tuple[str, ...]:
    """KIP with the ConvNet's kernel, ten images, and a rate that falls as half a cosine."""
    return (
        "distill",
        f"--dataset={dataset}",
        f"--preprocess={preprocess}",
        "--architecture=convnet",
        "--support_size=10",
        f"--steps={steps}",
        f"--learning_rate={rate}",
        "--schedule=cosine",
        f"--schedule_steps={steps}",
    )


# The learning rates are the papers'. Shifts and rotations are left out: they cost many times as
# much as an image's share of the kernel.
_KIP_FC = {
    "mnist": ("--learning_rate=0.01", "--steps=4000", "--schedule_steps=4000"),
    "cifar10": ("--learning_rate=0.04", "--steps=2000", "--schedule_steps=2000", "--augment=flip"),
}


def _kip_fc() -> Iterator[Row]:
    """KIP with the kernel of a fully connected network, with 1, 10 and 50 images per class."""
    for dataset, size, accuracy in (
        ("mnist", 10, "85.5 ± 0.1"),
        ("mnist", 100, "97.2 ± 0.2"),
        ("mnist", 500, "98.4 ± 0.1"),
        ("cifar10", 10, "40.5 ± 0.4"),
        ("cifar10", 100, "53.1 ± 0.5"),
        ("cifar10", 500, "58.6 ± 0.4"),
    ):
        flips = ", flips" if "--augment=flip" in _KIP_FC[dataset] else ""
        yield Row(
            name=f"kip_fc1_{dataset}_{size}",
            title=f"KIP, FC1, {_TITLES[dataset]}, {size} images, learned labels{flips}",
            accuracy=accuracy,
            source="ICLR",
            command=(
                "distill",
                f"--dataset={dataset}",
                "--architecture=fc1",
                f"--support_size={size}",
                "--target_batch_size=5000",
                "--schedule=cosine",
                "--learn_labels",
                *_KIP_FC[dataset],
            ),
        )


# What two cores can afford at these widths.
_NETWORKS = ("--seeds=2", "--test_limit=2000")

ROWS: tuple[Row, ...] = (
    Row(
        name="ls_fc1_cifar10_500",
        title="LS, FC1, CIFAR-10, 500 images",
        accuracy="46.99",
        loss="0.03596",
        source="ICLR, notebook",
        command=(
            "solve_labels",
            "--dataset=cifar10",
            "--architecture=fc1",
            "--support_size=500",
            "--kernel_dtype=float64",
        ),
    ),
    Row(
        name="kip_fc1_cifar10_100_fixed",
        title="KIP, FC1, CIFAR-10, 100 images, fixed labels, 300 steps",
        accuracy="46.74",
        source="ICLR, notebook",
        command=(
            "distill",
            "--dataset=cifar10",
            "--architecture=fc1",
            "--support_size=100",
            "--steps=300",
            "--target_batch_size=5000",
            "--learning_rate=0.04",
        ),
    ),
    *_kip_fc(),
    *_label_solve(),
    Row(
        name="kip_convnet_mnist_10",
        title="KIP, ConvNet, MNIST, 10 images, learned labels",
        accuracy="96.5 ± 0.1",
        source="NeurIPS",
        command=(*_kip_convnet("mnist", "standard", 1800, 0.06), "--learn_labels"),
        seeds=(0,),
    ),
    Row(
        name="kip_convnet_cifar10_zca_10",
        title="KIP, ConvNet, CIFAR-10, ZCA, 10 images, learned labels",
        accuracy="63.4 ± 0.1",
        source="NeurIPS",
        command=(*_kip_convnet("cifar10", "zca", 1000, 0.08), "--learn_labels"),
        seeds=(0,),
    ),
    Row(
        name="kip_convnet_mnist_10_fixed",
        title="KIP, ConvNet, MNIST, 10 images, fixed labels",
        accuracy="95.6",
        source="NeurIPS, table 2",
        command=_kip_convnet("mnist", "standard", 1000, 0.08),
        seeds=(0,),
    ),
    Row(
        name="kip_convnet_cifar10_zca_10_fixed",
        title="KIP, ConvNet, CIFAR-10, ZCA, 10 images, fixed labels",
        accuracy="59.1",
        source="NeurIPS, table 2",
        command=_kip_convnet("cifar10", "zca", 1000, 0.08),
        seeds=(0,),
    ),
    Row(
        name="transfer_mnist_10",
        title="transfer of 10 MNIST images, fixed labels, width 128 for 1,024",
        accuracy="90.1",
        source="NeurIPS, table 2",
        command=("transfer", "--dataset=mnist", "--width=128", *_NETWORKS),
        seeds=(0,),
        of="kip_convnet_mnist_10_fixed",
    ),
    Row(
        name="transfer_cifar10_zca_10",
        title="transfer of 10 CIFAR-10 images, ZCA, fixed labels, width 256 for 1,024",
        accuracy="50.0",
        source="NeurIPS, table 2",
        command=("transfer", "--dataset=cifar10", "--width=256", "--steps=600", *_NETWORKS),
        seeds=(0,),
        of="kip_convnet_cifar10_zca_10_fixed",
    ),
)
