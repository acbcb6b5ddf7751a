"""Package definition; exact versions of everything installed are in constraints.txt."""

import pathlib
import runpy

from setuptools import setup
from setuptools.command.build_py import build_py

ROOMS = ("common", "common.datasets", "server", "workers", "workers.native", "launch")

JAX = "0.5.3"


class BuildWithNativeKernels(build_py):
    """Compiles the native kernels in place first; kipper works without them, only slower."""

    def run(self) -> None:
        build = pathlib.Path(__file__).parent / "workers" / "native" / "build.py"
        print(runpy.run_path(str(build))["compile_all"]())
        super().run()


setup(
    name="kipper",
    version="0.1.0",
    description="Distils image data sets with exact infinite-width convolutional kernels.",
    license="Apache-2.0",
    python_requires=">=3.10,<3.11",
    packages=["kipper", *(f"kipper.{room}" for room in ROOMS)],
    package_dir={
        "kipper": ".",
        **{f"kipper.{room}": room.replace(".", "/") for room in ROOMS},
    },
    package_data={"kipper.workers.native": ["*.hpp", "*.cpp", "lib/*/*.so"]},
    cmdclass={"build_py": BuildWithNativeKernels},
    install_requires=[
        f"jax=={JAX}",
        f"jaxlib=={JAX}",
        "numpy>=1.26,<2",
        "scipy>=1.15,<1.16",
        "optax==0.2.8",
        "neural-tangents==0.6.4",
        # The last Launchpad; its Courier links against TensorFlow 2.8's shared library, and
        # protobuf 4 and setuptools 81 each break an import of that generation.
        "dm-launchpad==0.5.2",
        "dm-reverb==0.7.2",
        "tensorflow==2.8.4",
        "protobuf>=3.19,<3.20",
        "setuptools<81",
        "absl-py>=2,<3",
        "rich>=15,<16",
        "matplotlib>=3.10,<3.11",
        "scikit-learn>=1.7,<1.8",
        "mlxtend==0.23.4",
    ],
    extras_require={
        "cuda": [f"jax[cuda12]=={JAX}"],
        "dev": [
            "pytest==9.2.0",
            "pytest-timeout==2.4.0",
            "hypothesis==6.168.5",
            "ruff==0.17.6",
            "mypy==2.4.1",
        ],
    },
    entry_points={"console_scripts": ["kipper = kipper.launch.main:main"]},
)
