"""Networks of the user's own: the same kernel as the library's, and a sentence for each mistake."""

import pathlib
import re

import jax
import numpy as np
import pytest
from installation import needs_neural_tangents
from oracle import relative_error

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.errors import UserError
from kipper.common.network_file import network_file
from kipper.common.precision import enable_x64
from kipper.workers.choice import check_engine, make_engine
from kipper.workers.engine import PreparedImages
from kipper.workers.network_trial import try_network
from kipper.workers.own_network import made_kernel

pytestmark = pytest.mark.thorough

# A skip connection and a layer norm, as no named architecture has.
RESIDUAL = """
from kipper.workers.neural_tangents import relu, stax

def make():
    def conv():
        return stax.Conv(1, (3, 3), padding="SAME", W_std=2**0.5, b_std=0.1)

    block = stax.serial(stax.LayerNorm(), relu(), conv())
    return stax.serial(
        conv(),
        stax.FanOut(2),
        stax.parallel(stax.Identity(), block),
        stax.FanInSum(),
        relu(),
        stax.AvgPool((2, 2), strides=(2, 2)),
        stax.Flatten(),
        stax.Dense(1),
    )
"""


@pytest.fixture
def write(tmp_path):
    """Writes a file and names it."""

    def write(source):
        (tmp_path / "net.py").write_text(source)
        return f"{tmp_path / 'net.py'}:make"

    return write


def _images(count, seed):
    return np.random.default_rng(seed).normal(size=(count, 4, 4, 2))


def _spec(reference, dtype="float64"):
    return KernelSpec(architecture_named(reference), "ntk", dtype)


@needs_neural_tangents
@pytest.mark.filterwarnings("ignore:`FanIn` layers assume")
def test_block_and_vjps_are_those_of_the_library(write):
    from kipper.workers.neural_tangents import stax

    def conv():
        return stax.Conv(1, (3, 3), padding="SAME", W_std=2**0.5, b_std=0.1)

    _, _, kernel_fn = stax.serial(
        conv(),
        stax.FanOut(2),
        stax.parallel(stax.Identity(), stax.serial(stax.LayerNorm(), stax.Relu(), conv())),
        stax.FanInSum(),
        stax.Relu(),
        stax.AvgPool((2, 2), strides=(2, 2)),
        stax.Flatten(),
        stax.Dense(1),
    )
    x1, x2, cotangent = _images(2, 0), _images(3, 1), np.random.default_rng(2).normal(size=(2, 3))
    with enable_x64():
        pull = jax.jit(lambda a, b, c: jax.vjp(lambda *x: kernel_fn(*x, "ntk"), a, b)[1](c))
        expected = [np.asarray(piece) for piece in pull(x1, x2, cotangent)]
        values = np.asarray(jax.jit(lambda a, b: kernel_fn(a, b, "ntk"))(x1, x2))
    engine = make_engine("auto", _spec(write(RESIDUAL)), threads=1)
    assert engine.name == "neural_tangents"
    first, second = (PreparedImages(x, engine.features(x)) for x in (x1, x2))
    kernel, both = engine.block_vjp(first, second, cotangent, both=True)
    assert relative_error(kernel, values) < 1e-14
    for got, want in zip(both, expected, strict=True):
        assert relative_error(got, want) < 1e-12


@needs_neural_tangents
@pytest.mark.filterwarnings("ignore:`FanIn` layers assume")
def test_the_one_in_the_documentation_is_a_kernel(write):
    page = pathlib.Path(__file__).parents[2] / "docs" / "own_data.md"
    (source,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    kernel = made_kernel(network_file(write(source)))
    images = _images(2, 0).astype(np.float32)
    assert np.linalg.eigvalsh(kernel(images, images, "ntk")).min() > 0


@pytest.mark.parametrize("engine", ["dense", "banded_xla", "banded_cpu"])
def test_other_engines_refuse_it(write, engine):
    with pytest.raises(UserError, match=r"networks only, not 'net.py:make'; give --engine=auto"):
        check_engine(engine, _spec(write(RESIDUAL)))


MISTAKES = {
    "def make(:\n": r"net.py: cannot be run, line 1: SyntaxError: invalid syntax\.$",
    "import os\nraise ValueError('two\\nlines')\n": r"run, line 2: ValueError: two lines\.$",
    "import sys\nsys.exit(3)\n": r"cannot be run, line 2: SystemExit: 3\.$",
    "import beside\n": r"line 1: ModuleNotFoundError: No module named 'beside'\.$",
    "made = 1\n": r"net.py has no function 'make'",
    "make = 1\n": r"net.py has no function 'make'",
    "def make():\n    return 1 / 0\n": r"make\(\) failed, line 2: ZeroDivisionError: ",
    "def make(depth): ...\n": r"make\(\) failed: TypeError: .* argument: 'depth'\.$",
    "def make(): ...\n": r"returned a value of type NoneType, expected what stax.serial returns",
    "def make(): return len, len\n": r"returned a tuple of 2, expected",
    "def make(): return len, len, 3\n": r"returned a tuple of 3, expected",
}


@pytest.mark.parametrize("source", MISTAKES)
def test_a_file_that_makes_no_network(write, source):
    with pytest.raises(UserError, match=MISTAKES[source]) as caught:
        made_kernel(network_file(write(source)))
    assert "\n" not in str(caught.value)


KERNELS = {
    "a.sum()": r"is float64 of shape \(\) for float64 images, 1 and 2 of them; expected float64 of",
    "np.ones((2, 1))": r"is float64 of shape \(2, 1\)",
    "np.ones((1, 2), 'f')": r"is float32 of shape \(1, 2\)",
    "None": "is a value of type NoneType",
    "a.nothing": r"failed on images \(4, 4, 2\), line 3: AttributeError: ",
}


@pytest.mark.parametrize("expression", KERNELS)
def test_invalid_kernels_are_refused(write, expression):
    source = f"import numpy as np\ndef kernel(a, b, kind):\n    return {expression}\n"
    kernel = made_kernel(network_file(write(source + "def make(): return len, len, kernel\n")))
    with pytest.raises(UserError, match=KERNELS[expression]):
        kernel(_images(1, 0), _images(2, 1), "ntk")


@needs_neural_tangents
def test_a_trial_tells_of_mistakes_and_keeps_the_files_own_words_to_itself(write, capfd):
    try_network(KernelSpec(architecture_named("fc1"), "ntk", "float32"), (4, 4, 2))
    kernel = "jnp.full((len(a), len(b)), {}, a.dtype)"
    source = (
        "import jax.numpy as jnp\nprint('words')\ndef make(): return len, len, lambda a, b, k: "
    )
    try_network(_spec(write(source + kernel.format(1))), (4, 4, 2))
    with pytest.raises(UserError, match=r"is not finite for images of shape \(4, 4, 2\)\.$"):
        try_network(_spec(write(source + kernel.format("jnp.nan")), "float32"), (4, 4, 2))
    with pytest.raises(UserError, match=r"net.py ended its process with status 7: no message"):
        try_network(_spec(write("import os\nos._exit(7)\n")), (4, 4, 2))
    assert capfd.readouterr() == ("", "")
