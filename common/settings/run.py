"""The settings of a run: what it computes, and how it is carried out."""

import dataclasses
import pathlib
from typing import Any

from kipper.common.errors import UserError
from kipper.common.network_file import with_hashes
from kipper.common.settings.compute import ComputeSettings
from kipper.common.settings.execution import ExecutionSettings
from kipper.common.settings.field import arguments_of

# The order in which config.json lists settings of all runs; those of the algorithm follow.
_ORDER = (
    *("workdir", "dataset", "data_dir", "preprocess", "architecture", "kernel", "support_size"),
    *("ridge", "seed", "engine", "kernel_dtype", "launch", "ray_address"),
    *("ray_device", "num_workers", "threads", "port", "host", "transport", "certificates"),
    *(
        "allow_open_network",
        "block_support",
        "block_target",
        "verify_fraction",
        "chaos",
        "dashboard",
        "dashboard_open",
    ),
    *("train_limit", "test_limit", "log_format", "overwrite"),
)


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """The settings of a run.

    Attributes:
        compute: what it computes; its class says by which algorithm.
        execution: how it is carried out.
    """

    compute: ComputeSettings
    execution: ExecutionSettings

    @classmethod
    def of(cls, compute_class: type[ComputeSettings], **values: Any) -> "RunSettings":
        """The settings of a run from values by name, as flags are named; a recipe is expanded.

        Raises:
            TypeError: a name is unknown, or a required value is missing.
        """
        compute, execution = _in_two(values)
        compute = {**compute_class.expansion(compute), **compute}
        return cls(compute_class(**compute), ExecutionSettings(**execution))

    def replace(self, **changes: Any) -> "RunSettings":
        """The same settings with some changed, of either part."""
        compute, execution = _in_two(changes)
        return RunSettings(
            dataclasses.replace(self.compute, **compute),
            dataclasses.replace(self.execution, **execution),
        )

    def check(self) -> None:
        """Refuses values that are wrong whatever the data set, the machine or the cluster.

        Raises:
            UserError: one sentence with the flag, its value and what it must be.
        """
        self.execution.check()
        self.compute.check()
        workdir = pathlib.Path(self.execution.workdir).resolve()
        for name, path in self.compute.input_files.items():
            lies_inside = path and pathlib.Path(path).resolve().is_relative_to(workdir)
            if self.execution.overwrite and lies_inside:
                raise UserError(
                    f"--overwrite would remove --{name}={path}, which lies in the workdir; give "
                    "another --workdir."
                )

    def record(self) -> dict[str, Any]:
        """All settings by name, for files; user-defined networks with their hashes."""
        values = dataclasses.asdict(self.execution) | dataclasses.asdict(self.compute)
        for name in ("architecture", "sample_architectures"):
            if values.get(name):
                values[name] = with_hashes(values[name])
        return {name: values[name] for name in dict.fromkeys((*_ORDER, *values))}

    def arguments(self) -> list[str]:
        """The command-line arguments that give these settings; defaults are left out."""
        return [*arguments_of(self.execution), *arguments_of(self.compute)]


def _in_two(values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values by name, divided into those of `compute` and those of `execution`."""
    names = {field.name for field in dataclasses.fields(ExecutionSettings)}
    compute = {name: value for name, value in values.items() if name not in names}
    return compute, {name: value for name, value in values.items() if name in names}


def run_fields(compute_class: type[ComputeSettings]) -> "list[dataclasses.Field[Any]]":
    """The fields of a run's settings, of both parts."""
    return [*dataclasses.fields(ExecutionSettings), *dataclasses.fields(compute_class)]


def free_names(compute_class: type[ComputeSettings]) -> set[str]:
    """Names of the settings that may change when a run is resumed."""
    execution = {field.name for field in dataclasses.fields(ExecutionSettings)}
    compute = dataclasses.fields(compute_class)
    return execution | {field.name for field in compute if field.metadata["free"]}
