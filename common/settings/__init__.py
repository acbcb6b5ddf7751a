"""Settings of every command, as immutable values; the flags of the command line are made from them.

Each field carries its help text, its choices and whether it is required.
"""

from kipper.common.settings.algorithms import DistillSettings, SolveLabelsSettings
from kipper.common.settings.cluster import LaunchSettings, SlurmJobSettings
from kipper.common.settings.compute import ComputeSettings
from kipper.common.settings.evaluate import EvaluateSettings
from kipper.common.settings.execution import ExecutionSettings
from kipper.common.settings.export import ExportSettings
from kipper.common.settings.field import (
    Settings,
    TransportName,
    arguments_of,
    choices_of,
    departures,
)
from kipper.common.settings.report import CompareSettings, ReportSettings
from kipper.common.settings.run import RunSettings, free_names, run_fields
from kipper.common.settings.tools import (
    BenchSettings,
    CertificatesSettings,
    CompletionSettings,
    DoctorSettings,
    DryRunSettings,
    EstimateSettings,
    ListSettings,
    ReplaySettings,
    StatusSettings,
)
from kipper.common.settings.transfer import TransferSettings
from kipper.common.settings.worker import WorkerSettings

__all__ = [
    "BenchSettings",
    "CertificatesSettings",
    "CompareSettings",
    "CompletionSettings",
    "ComputeSettings",
    "DistillSettings",
    "DoctorSettings",
    "DryRunSettings",
    "EstimateSettings",
    "EvaluateSettings",
    "ExecutionSettings",
    "ExportSettings",
    "LaunchSettings",
    "ListSettings",
    "ReplaySettings",
    "ReportSettings",
    "RunSettings",
    "Settings",
    "SlurmJobSettings",
    "SolveLabelsSettings",
    "StatusSettings",
    "TransferSettings",
    "TransportName",
    "WorkerSettings",
    "arguments_of",
    "choices_of",
    "departures",
    "free_names",
    "run_fields",
]
