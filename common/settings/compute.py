"""Settings that decide what a run computes, for every algorithm."""

import dataclasses
import math
from collections.abc import Mapping

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.engines import ENGINES
from kipper.common.errors import UserError
from kipper.common.network_file import is_network_file
from kipper.common.settings.field import (
    Kernel,
    KernelDtype,
    Preprocess,
    Settings,
    required,
    setting,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComputeSettings(Settings):
    """What a run computes. A resumed run must have the same, except fields that are `free`."""

    dataset: str = required(
        "digits, mnist5k (embedded), mnist, fashion_mnist, cifar10, cifar100, svhn_cropped "
        "(files in --data_dir), npz:PATH, or folder:PATH[@SIZE], with images in PATH/CLASS or in "
        "PATH/train/CLASS and PATH/test/CLASS."
    )
    preprocess: Preprocess = setting(
        "standard", "Standardise each channel, or apply regularised ZCA (colour images)."
    )
    architecture: str = setting(
        "fc1",
        "fcK, convnet, convnetK, convnet_gap, convnetK_gap, myrtle5, myrtle7, myrtle10, conv_vecK "
        "or conv_gapK (K is from 1 to 99, and of convnetK from 1 to 9), each also with _leaky, "
        "_erf or _gelu in place of its ReLU; or a network of your own: FILE.py:FUNCTION.",
    )
    kernel: Kernel = setting("ntk", "Neural tangent kernel, or NNGP covariance.")
    support_size: int = setting(
        10, "Number of support images, over all classes; a multiple of the number of classes."
    )
    ridge: float = setting(1e-6, "Regularisation, as a multiple of trace(K_ss) / support_size.")
    seed: int = setting(0, "Seed of the initial draw and of every target batch.")
    engine: str = setting(
        "auto", "Implementation of kernel blocks; auto takes the fastest.", ENGINES
    )
    kernel_dtype: KernelDtype = setting(
        "float32",
        "Precision of kernel blocks and support images; the regression is always float64.",
    )
    block_support: int | None = setting(
        None,
        "Maximum number of support images in a kernel block; by default the engine's, or else one "
        "by memory.",
    )
    block_target: int | None = setting(
        None,
        "Maximum number of target images in a kernel block; by default the engine's, or else one "
        "by memory, and less in a step of few pairs, so that workers can share it.",
    )
    train_limit: int | None = setting(
        None, "Use only this many training images, balanced by class; by default all."
    )
    test_limit: int | None = setting(
        None, "Use only this many test images, balanced by class; by default all."
    )

    def check(self) -> None:
        super().check()
        sizes = ("support_size", "block_support", "block_target", "train_limit", "test_limit")
        self.check_at_least(1, *sizes)
        self.check_at_least(0, "seed")
        if not (math.isfinite(self.ridge) and self.ridge >= 0):
            raise UserError(f"--ridge is {self.ridge}; it must be a finite number, 0 or more.")
        for name in self.architectures:
            architecture_named(name)

    @property
    def architectures(self) -> tuple[str, ...]:
        """Names of the architectures that the run uses; scores are those of the first."""
        return (self.architecture,)

    @property
    def resolved(self) -> Mapping[str, object]:
        """The values that unset settings get, as far as the other settings determine them."""
        return {}

    @property
    def input_files(self) -> Mapping[str, str | None]:
        """Files that the run reads beside the data set, by the name of their setting."""
        return {}

    @property
    def kernel_specs(self) -> tuple[KernelSpec, ...]:
        """The kernel of each architecture."""
        return tuple(
            KernelSpec(architecture_named(name), self.kernel, self.kernel_dtype)
            for name in self.architectures
        )

    @property
    def kernel_spec(self) -> KernelSpec:
        """The kernel that scores are computed with."""
        return self.kernel_specs[0]

    @property
    def own_networks(self) -> str | None:
        """The user-defined networks among `architectures`, separated by commas; None if none."""
        return ",".join(filter(is_network_file, self.architectures)) or None
