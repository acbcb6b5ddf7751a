"""The algorithms that kipper has: a module and a line in `ALGORITHMS` for each."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from kipper.common.errors import UserError
from kipper.common.settings import ComputeSettings
from kipper.server.algorithms.algorithm import Algorithm
from kipper.server.algorithms.kip import Kip
from kipper.server.algorithms.label_solve import LabelSolve

ALGORITHMS: tuple[type[Algorithm], ...] = (Kip, LabelSolve)


def algorithm_of(settings: ComputeSettings) -> Algorithm:
    """The algorithm that these settings are for."""
    return next(cls(settings) for cls in ALGORITHMS if isinstance(settings, cls.settings_class))


def recorded_algorithm(class_name: str, record: Mapping[str, Any]) -> Algorithm:
    """The algorithm of a config.json: the name of its settings' class, and the settings by name.

    Settings that this version does not know are left out; those that an older version did not
    record have their defaults.

    Raises:
        UserError: this version does not have the algorithm.
    """
    for cls in ALGORITHMS:
        if cls.settings_class.__name__ == class_name:
            names = {field.name for field in dataclasses.fields(cls.settings_class)}
            known = {name: value for name, value in record.items() if name in names}
            return cls(cls.settings_class(**known))
    raise UserError(f"This version of kipper has no algorithm with {class_name!r}.")


def guessed_algorithm(record: Mapping[str, Any]) -> Algorithm:
    """The algorithm of settings recorded without their class: the one that knows most of them."""

    def number_known(cls: type[Algorithm]) -> int:
        return sum(field.name in record for field in dataclasses.fields(cls.settings_class))

    return recorded_algorithm(max(ALGORITHMS, key=number_known).settings_class.__name__, record)
