"""The layers of each named architecture, spelled out as the papers define them."""

import dataclasses

import pytest

from kipper.common.architecture import (
    Architecture,
    AvgPool,
    Conv,
    Dense,
    Erf,
    Flatten,
    Gelu,
    GlobalAvgPool,
    Layer,
    LeakyRelu,
    Relu,
    architecture_named,
    check_image_side,
)
from kipper.common.errors import UserError

LETTERS: dict[str, Layer] = {
    "C": Conv(),
    "R": Relu(),
    "L": LeakyRelu(0.01),
    "E": Erf(),
    "U": Gelu(),
    "P": AvgPool(),
    "F": Flatten(),
    "G": GlobalAvgPool(),
    "D": Dense(),
}


def layers(letters: str) -> tuple[Layer, ...]:
    return tuple(LETTERS[letter] for letter in letters.replace(" ", ""))


@pytest.mark.parametrize(
    ("name", "letters"),
    [
        # The released code's `prepend_layers` adds conv + ReLU before the three pooled stages.
        ("convnet", "CR CRP CRP CRP F D"),
        ("convnet3", "CRP CRP CRP F D"),
        # Depths of Dataset Condensation's ConvNet, which is 4 deep for 64x64 pixels.
        ("convnet1", "CRP F D"),
        ("convnet4", "CRP CRP CRP CRP F D"),
        ("convnet_gap", "CR CRP CRP CRP G D"),
        ("convnet4_gap", "CRP CRP CRP CRP G D"),
        ("conv_gap2", "CR CR G D"),
        ("fc3_erf", "F DE DE DE D"),
        ("convnet_gelu", "CU CUP CUP CUP F D"),
        ("convnet3_leaky", "CLP CLP CLP F D"),
        ("convnet_gap_gelu", "CU CUP CUP CUP G D"),
        ("myrtle5_erf", "CE CE P CE P CE G D"),
        ("conv_vec2_gelu", "CU CU F D"),
        # Shankar et al., "Neural Kernels Without Tangents" (arXiv 2003.02237), figure 1.
        ("myrtle5", "CR CR P CR P CR G D"),
        ("myrtle7", "CR CR P CR CR P CR CR G D"),
        ("myrtle10", "CR CR CR P CR CR CR P CR CR CR G D"),
        ("conv_vec1", "CR F D"),
        ("conv_vec3", "CR CR CR F D"),
        ("fc1", "F DR D"),
        ("fc2", "F DR DR D"),
        ("fc4", "F DR DR DR DR D"),
    ],
)
def test_layers(name: str, letters: str) -> None:
    architecture = architecture_named(name)
    assert architecture.name == name
    assert architecture.layers == layers(letters)


@pytest.mark.parametrize("name", ["myrtle5", "myrtle7", "myrtle10"])
def test_myrtle_counts_its_convolutions_and_the_read_out(name: str) -> None:
    found = architecture_named(name).layers
    weighted = sum(isinstance(layer, Conv | Dense) for layer in found)
    assert weighted == int(name.removeprefix("myrtle"))


@pytest.mark.parametrize("name", ["fc1", "fc9", "fc10", "fc99", "conv_vec1", "conv_vec42"])
def test_depth_is_read_from_the_name(name: str) -> None:
    depth = int(name.lstrip("fconv_e"))
    hidden = sum(isinstance(layer, Relu) for layer in architecture_named(name).layers)
    assert hidden == depth


@pytest.mark.parametrize(
    "name",
    [
        "",
        "fc",
        "fc0",
        "fc01",
        "fc100",
        "fc-1",
        "fc1 ",
        "fc1\n",
        "FC1",
        "fc１",
        "conv_vec",
        "conv_vec0",
        "convnet0",
        "convnet10",
        "convnet_flatten",
        "convnet_relu",
        "convnet_gelu_gap",
        "convnet_gelu_erf",
        "myrtle5_gap",
        "fc2_gap",
        "conv_gap",
        "myrtle",
        "myrtle6",
        "xfc1",
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UserError) as caught:
        architecture_named(name)
    sentence = str(caught.value)
    assert repr(name) in sentence
    for known in ("fcK", "convnetK", "myrtle5", "conv_vecK", "conv_gapK", "_gelu", "FILE.py:FUNC"):
        assert known in sentence


@pytest.mark.parametrize(
    ("name", "pools", "couples"),
    [
        ("fc3", 0, False),
        ("conv_vec2", 0, False),
        ("convnet", 3, True),
        ("convnet3", 3, True),
        ("myrtle5", 2, True),
        ("myrtle7", 2, True),
        ("myrtle10", 2, True),
        ("convnet5", 5, True),
        ("convnet_gap", 3, True),
        ("conv_gap3", 0, True),
    ],
)
def test_pools(name: str, pools: int, couples: bool) -> None:
    architecture = architecture_named(name)
    assert architecture.num_pools == pools
    assert architecture.couples_pixels is couples


def test_a_global_pool_alone_couples_pixels() -> None:
    assert Architecture("own", layers("CR G D")).couples_pixels


@pytest.mark.parametrize("name", ["fc2", "convnet4_gap", "myrtle7"])
def test_other_nonlinearities_are_of_no_family(name: str) -> None:
    family = "fully connected ReLU" if name == "fc2" else "convolutional ReLU"
    assert architecture_named(name).family == family
    for activation in ("leaky", "erf", "gelu"):
        assert architecture_named(f"{name}_{activation}").family is None


def test_deviations_are_those_of_the_released_code() -> None:
    architecture = architecture_named("convnet")
    assert architecture.w_std**2 == pytest.approx(2.0)
    assert architecture.b_std == 0.1


@pytest.mark.parametrize(
    ("name", "smallest"), [("convnet", 8), ("convnet3", 8), ("myrtle10", 4), ("fc1", 1)]
)
def test_images_too_small_for_the_pools_are_refused(name: str, smallest: int) -> None:
    architecture = architecture_named(name)
    check_image_side(architecture, smallest, smallest)
    check_image_side(architecture, smallest, 100)
    for height, width in ((smallest - 1, smallest), (smallest, smallest - 1)):
        with pytest.raises(UserError, match=f"{height}x{width} .*{smallest}x{smallest}"):
            check_image_side(architecture, height, width)


def test_architectures_are_values() -> None:
    first, second = architecture_named("myrtle5"), architecture_named("myrtle5")
    assert first == second
    assert hash(first) == hash(second)
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.name = "other"
