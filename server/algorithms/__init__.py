"""The algorithms that kipper has: a module and a line in `ALGORITHMS` for each."""

import dataclasses

from kipper.common.errors import UserError
from kipper.common.settings import ComputeSettings
from kipper.server.algorithms.algorithm import Algorithm
from kipper.server.algorithms.kip import Kip
from kipper.server.algorithms.label_solve import LabelSolve
from kipper.server.records import Json, fits

ALGORITHMS: tuple[type[Algorithm], ...] = (Kip, LabelSolve)


def algorithm_of(settings: ComputeSettings) -> Algorithm:
    """The algorithm that these settings are for."""
    return next(cls(settings) for cls in ALGORITHMS if isinstance(settings, cls.settings_class))


def recorded_algorithm(class_name: str, record: Json) -> Algorithm:
    """The algorithm of a config.json: the name of its settings' class, and the settings by name.

    Unknown settings of another version are left out; settings that it did not record get their
    defaults.

    Raises:
        UserError: this version does not have the algorithm.
        TypeError: a setting has a value of another type.
    """
    for cls in ALGORITHMS:
        if cls.settings_class.__name__ == class_name:
            return _with_known(cls, record)
    raise UserError(f"This version of kipper has no algorithm with {class_name!r}.")


def command_named(class_name: str) -> str:
    """The command of a run, from the name of its settings' class; for an unknown class its name."""
    return next(
        (cls.command for cls in ALGORITHMS if cls.settings_class.__name__ == class_name), class_name
    )


def guessed_algorithm(record: Json) -> Algorithm:
    """The algorithm of settings recorded without their class: the one that knows most of them."""
    return _with_known(max(ALGORITHMS, key=lambda cls: len(record.keys() & _names(cls))), record)


def _names(cls: type[Algorithm]) -> set[str]:
    return {field.name for field in dataclasses.fields(cls.settings_class)}


def _with_known(cls: type[Algorithm], record: Json) -> Algorithm:
    # The settings of a released set may lack the data set, which has no default.
    known = {"dataset": "", **{name: record[name] for name in record.keys() & _names(cls)}}
    for field in dataclasses.fields(cls.settings_class):
        if field.name in known and not fits(known[field.name], field.type):
            raise TypeError(f"its {field.name} cannot be {known[field.name]!r:.40}")
    return cls(cls.settings_class(**known))
