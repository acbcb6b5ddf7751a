"""Names of released files."""

import pytest

from kipper.server.released import ReleasedName, parse_released_name

# The first two are named in the notebook of the release, the third follows its scheme for LS.
NAMES = {
    "ConvNet_ssize100_zca_nol_noaug_ckpt1000": ReleasedName(
        "convnet", 100, "zca", learned_labels=False, augmented=False, step=1000
    ),
    "ConvNet3_ssize500_nozca_l_aug_ckpt0": ReleasedName(
        "convnet3", 500, "standard", learned_labels=True, augmented=True, step=0
    ),
    "ConvNet_ssize10_zca": ReleasedName("convnet", 10, "zca"),
    "fc1_ssize10_nozca_l_noaug_ckpt300": ReleasedName("fc1", 10, "standard", True, False, 300),
    "conv_vec3_ssize10_nozca": ReleasedName("conv_vec3", 10, "standard"),
}


@pytest.mark.parametrize("stem", NAMES)
def test_a_name_is_parsed_and_formatted(stem: str) -> None:
    assert parse_released_name(stem) == NAMES[stem]
    assert str(NAMES[stem]) == stem


@pytest.mark.parametrize(
    "stem",
    [
        "distilled",
        "best",
        "ConvNet_ssize10",
        "ConvNet_ssize_zca",
        "ConvNet_ssize10_zca_l",
        "ConvNet_ssize10_zca_l_aug_ckpt",
        "ConvNet_ssize10_zca_aug_l_ckpt3",
        "_ssize10_zca",
        "ConvNet_ssize10_zca.preprocessing",
    ],
)
def test_other_names_are_not_parsed(stem: str) -> None:
    assert parse_released_name(stem) is None


def test_a_user_defined_network_gives_a_valid_file_name() -> None:
    name = str(ReleasedName("nets/mine.py:make", 10, "standard"))
    assert name == "nets-mine.py-make_ssize10_nozca"
