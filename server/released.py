"""File names in the style of those released with arXiv 2107.13034.

kip/<dataset>/<architecture>_ssize<n>_<zca|nozca>_<l|nol>_<aug|noaug>_ckpt<step>.npz, and
ls/<dataset>/<architecture>_ssize<n>_<zca|nozca>.npz for Label Solve.
"""

import dataclasses
import re

# Architectures whose released names differ from ours.
_SPELLED = {"convnet": "ConvNet", "convnet3": "ConvNet3"}
_OURS = {spelled: ours for ours, spelled in _SPELLED.items()}
_NAME = re.compile(
    r"(?P<architecture>.+)_ssize(?P<support_size>[0-9]+)_(?P<zca>zca|nozca)"
    r"(_(?P<labels>l|nol)_(?P<augmentation>aug|noaug)_ckpt(?P<step>[0-9]+))?"
)


@dataclasses.dataclass(frozen=True)
class ReleasedName:
    """What a released file's name says, as settings spell it; `step` is None for Label Solve."""

    architecture: str
    support_size: int
    preprocess: str
    learned_labels: bool = False
    augmented: bool = False
    step: int | None = None

    def __str__(self) -> str:
        """The name, without its ending."""
        spelled = _SPELLED.get(self.architecture, re.sub(r"[^\w.-]", "-", self.architecture))
        zca = "zca" if self.preprocess == "zca" else "nozca"
        name = f"{spelled}_ssize{self.support_size}_{zca}"
        if self.step is None:
            return name
        labels = "l" if self.learned_labels else "nol"
        augmentation = "aug" if self.augmented else "noaug"
        return f"{name}_{labels}_{augmentation}_ckpt{self.step}"


def parse_released_name(stem: str) -> ReleasedName | None:
    """Parses a file's name without its ending; None if it is not such a name."""
    match = _NAME.fullmatch(stem)
    if match is None:
        return None
    return ReleasedName(
        architecture=_OURS.get(match["architecture"], match["architecture"]),
        support_size=int(match["support_size"]),
        preprocess="zca" if match["zca"] == "zca" else "standard",
        learned_labels=match["labels"] == "l",
        augmented=match["augmentation"] == "aug",
        step=None if match["step"] is None else int(match["step"]),
    )
