"""What a command is asked to do, as immutable values; the command line's flags are made from these.

Each field carries its help text, its choices and whether a resumed run may differ in it.
"""

from kipper.common.settings.algorithms import DistillSettings, SolveLabelsSettings
from kipper.common.settings.cluster import LaunchSettings, NodeSettings
from kipper.common.settings.evaluate import EvaluateSettings
from kipper.common.settings.export import ExportSettings
from kipper.common.settings.field import (
    TRANSPORTS,
    arguments_of,
    check_at_least,
    check_choices,
    setting,
)
from kipper.common.settings.report import CompareSettings, ReportSettings
from kipper.common.settings.run import LAUNCHES, RunSettings
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
    "LAUNCHES",
    "TRANSPORTS",
    "BenchSettings",
    "CertificatesSettings",
    "CompareSettings",
    "CompletionSettings",
    "DistillSettings",
    "DoctorSettings",
    "DryRunSettings",
    "EstimateSettings",
    "EvaluateSettings",
    "ExportSettings",
    "LaunchSettings",
    "ListSettings",
    "NodeSettings",
    "ReplaySettings",
    "ReportSettings",
    "RunSettings",
    "SolveLabelsSettings",
    "StatusSettings",
    "TransferSettings",
    "WorkerSettings",
    "arguments_of",
    "check_at_least",
    "check_choices",
    "setting",
]
