"""What a run is asked to do, as immutable values; the command line's flags are made from these.

Each field carries its help text, its choices and whether a resumed run may differ in it.
"""

import dataclasses
import math
import os
from typing import Any

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.chaos import Chaos, parse_chaos
from kipper.common.engines import ENGINES
from kipper.common.errors import UserError

LAUNCHES = ("inprocess", "local_mt", "local_mp")
TRANSPORTS = ("courier", "grpc_tls")


def setting(
    default: Any, text: str, choices: tuple[str, ...] | None = None, free: bool = False
) -> Any:
    """A field of a settings class.

    Args:
        default: None for "not given".
        text: what the flag's help says.
        choices: the values admitted, if they can be listed.
        free: whether a resumed run may change it, because no bit of the result depends on it.
    """
    return dataclasses.field(
        default=default, metadata={"help": text, "choices": choices, "free": free}
    )


def _transport() -> Any:
    return setting(
        "courier",
        "How coordinator and workers talk: Courier, on closed networks only, or gRPC with mutual "
        "TLS.",
        TRANSPORTS,
        free=True,
    )


def _allow_open_network() -> Any:
    text = "Let Courier listen on a public network; a firewall must close the port."
    return setting(False, text, free=True)


def _certificates() -> Any:
    return setting(None, "Folder made by kipper certificates, for grpc_tls.", free=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings that `distill` and `solve_labels` share."""

    workdir: str = setting(None, "Folder for all results; the same command resumes it.", free=True)
    dataset: str = setting(
        None,
        "digits, mnist5k (embedded), mnist, fashion_mnist, cifar10, cifar100, svhn_cropped "
        "(files in --data_dir) or npz:PATH.",
    )
    data_dir: str | None = setting(None, "Folder of the data set's own files.", free=True)
    preprocess: str = setting(
        "standard",
        "Channel standardisation, or regularised ZCA (colour images).",
        ("standard", "zca"),
    )
    architecture: str = setting(
        "fc1", "fcK, convnet, convnet3, myrtle5, myrtle7, myrtle10 or conv_vecK."
    )
    kernel: str = setting("ntk", "Tangent kernel, or NNGP covariance.", ("ntk", "nngp"))
    support_size: int = setting(10, "Support images in all; divisible by the number of classes.")
    ridge: float = setting(1e-6, "Regularisation, as a share of trace(K_ss) / support_size.")
    seed: int = setting(0, "Seed of the initial draw and of every target batch.")
    engine: str = setting("auto", "What evaluates kernel blocks; auto takes the fastest.", ENGINES)
    kernel_dtype: str = setting(
        "float32",
        "Precision of kernel blocks and support images; the regression is always float64.",
        ("float32", "float64"),
    )
    launch: str = setting(
        "inprocess",
        "Workers in this process, as threads under Launchpad, or as processes under Launchpad.",
        LAUNCHES,
        free=True,
    )
    num_workers: int = setting(
        2, "Workers to start; 0 with --port waits for workers from elsewhere.", free=True
    )
    threads: int | None = setting(
        None, "Threads of a native engine, each worker; cores / workers if not given.", free=True
    )
    port: int | None = setting(
        None,
        "Port where workers from elsewhere may join at any time: kipper worker "
        "--coordinator=HOST:PORT. None but this run's own can if not given.",
        free=True,
    )
    host: str | None = setting(
        None, "What other hosts call this one by; its host name if not given.", free=True
    )
    transport: str = _transport()
    certificates: str | None = _certificates()
    allow_open_network: bool = _allow_open_network()
    block_support: int | None = setting(
        None, "Most support images in a kernel block; chosen from a memory budget if not given."
    )
    block_target: int | None = setting(
        None, "Most target images in a kernel block; chosen from a memory budget if not given."
    )
    verify_fraction: float = setting(
        0.01,
        "Share of kernel blocks that two workers compute and of which the answers are compared; 1 "
        "uses no number that two workers do not agree on.",
        free=True,
    )
    chaos: str | None = setting(
        None,
        "Faults for this run to inflict on its own workers, which change nothing in the result: "
        "kill:20s,freeze:30s,drop:0.05,delay:200ms,corrupt:0.01,lie:0.01,seed=7.",
        free=True,
    )
    train_limit: int | None = setting(None, "Use only this many training images, by class.")
    test_limit: int | None = setting(None, "Use only this many test images, by class.")
    overwrite: bool = setting(False, "Start afresh in a workdir that holds another run.", free=True)

    def check(self) -> None:
        """Refuses values that no data set could make right.

        Raises:
            UserError: one sentence naming the flag, the value and what would be right.
        """
        for required in ("workdir", "dataset"):
            if not getattr(self, required):
                raise UserError(f"--{required} is required.")
        check_choices(self)
        positive = ("support_size", "threads", "block_support", "block_target", "port")
        check_at_least(self, 1, (*positive, "train_limit", "test_limit"))
        if self.num_workers < 1 and (self.num_workers < 0 or self.port is None):
            raise UserError(
                f"--num_workers is {self.num_workers}; it must be 1 or more, or 0 with a --port "
                "where workers from elsewhere can join."
            )
        check_at_least(self, 0, ("seed",))
        if not (math.isfinite(self.ridge) and self.ridge >= 0):
            raise UserError(f"--ridge is {self.ridge}; it must be a finite number, 0 or more.")
        if not 0 <= self.verify_fraction <= 1:
            raise UserError(f"--verify_fraction is {self.verify_fraction}; it is from 0 to 1.")
        if self.verify_fraction == 1 and self.num_workers == 1 and self.port is None:
            raise UserError("--verify_fraction=1 needs two workers or more; give --num_workers=2.")
        self._check_chaos()
        architecture_named(self.architecture)

    @property
    def faults(self) -> Chaos | None:
        """What `chaos` asks for; None if it is not given."""
        return parse_chaos(self.chaos) if self.chaos is not None else None

    def _check_chaos(self) -> None:
        chaos = self.faults or Chaos()
        if chaos.needs_processes and self.launch != "local_mp":
            raise UserError(
                "--chaos with kill or freeze attacks processes; give --launch=local_mp."
            )
        if chaos.lie and (self.verify_fraction < 1 or self.num_workers < 3):
            raise UserError(
                "--chaos with lie is only found out with --verify_fraction=1 and --num_workers=3 "
                "or more."
            )

    @property
    def threads_per_worker(self) -> int:
        """As given, or this machine's cores shared out among its workers; 0: all of each's own."""
        if self.threads is None and self.num_workers == 0:
            return 0
        return self.threads or max(1, (os.cpu_count() or 1) // self.num_workers)

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(architecture_named(self.architecture), self.kernel, self.kernel_dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillSettings(RunSettings):
    """Settings of KIP: learn support images, and optionally labels, by gradient descent."""

    learn_labels: bool = setting(False, "Learn the labels too, with the same optimiser.")
    steps: int = setting(
        1000, "Gradient steps; a finished run may be resumed with more.", free=True
    )
    target_batch_size: int | None = setting(
        None,
        "Target images a step, balanced by class and drawn anew, at most all of them; 50 for each "
        "support image, at most 5000, if not given.",
    )
    learning_rate: float = setting(0.04, "Learning rate of Adam.")
    eval_every: int | None = setting(
        None, "Evaluate every so many steps; at 0, 1, 2, 4, 6, 8, 12, 18, … if not given."
    )

    @property
    def targets_per_step(self) -> int:
        """As given, or in proportion to what is learned: more hardly steadies the gradient.

        5000 is the number of the released notebook of arXiv 2011.00050, for 100 support images.
        """
        return self.target_batch_size or min(50 * self.support_size, 5000)

    def check(self) -> None:
        super().check()
        check_at_least(self, 1, ("target_batch_size", "eval_every"))
        check_at_least(self, 0, ("steps",))
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UserError(
                f"--learning_rate is {self.learning_rate}; it must be a finite number above 0."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SolveLabelsSettings(RunSettings):
    """Settings of LS: solve for the labels of natural support images in closed form."""

    label_ridge: str = setting(
        "paper",
        "paper: minimise the loss that evaluation uses; notebook: the released notebook's "
        "formula, with an absolute 1e-6 / support_size on both factors.",
        ("paper", "notebook"),
    )


def check_choices(settings: Any) -> None:
    """Raises a UserError for a field whose value is not among its choices."""
    for field in dataclasses.fields(settings):
        value, choices = getattr(settings, field.name), field.metadata.get("choices")
        if choices and value not in choices:
            raise UserError(f"--{field.name} is {value!r}; it must be one of {', '.join(choices)}.")


def check_at_least(settings: Any, least: int, names: tuple[str, ...]) -> None:
    """Raises a UserError for a field that is given and smaller than `least`."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and value < least:
            raise UserError(f"--{name} is {value}; it must be {least} or more.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """Settings of `worker`: compute kernel blocks for a run's coordinator."""

    coordinator: str = setting(None, "HOST:PORT of the run to join.")
    port: int = setting(0, "Port to listen on; a free one if 0.")
    advertise_host: str | None = setting(
        None,
        "What the coordinator is to call this host by; its address on the way there if not given.",
    )
    name: str | None = setting(
        None,
        "Unique in the run, and the same after a restart; made of host and process if not given.",
    )
    device: int | None = setting(
        None, "Use one GPU of this machine alone, by number; all if not given."
    )
    all_devices: bool = setting(
        False, "Start one worker for each GPU of this machine, and again when one dies."
    )
    threads: int | None = setting(
        None, "Threads of a native engine; what the coordinator says if not given."
    )
    patience: float | None = setting(
        None, "Seconds to wait for a coordinator that is away; for ever if not given."
    )
    transport: str = _transport()
    certificates: str | None = _certificates()
    allow_open_network: bool = _allow_open_network()
    chaos: str | None = setting(None, "Faults to inflict on itself: kill:20s,freeze:30s,seed=7.")

    def check(self) -> None:
        """Refuses values that no coordinator could make right.

        Raises:
            UserError: one sentence naming the flag, the value and what would be right.
        """
        if not self.coordinator:
            raise UserError("--coordinator is required: the HOST:PORT of the run to join.")
        if self.chaos is not None:
            parse_chaos(self.chaos)
        check_choices(self)
        check_at_least(self, 1, ("threads",))
        check_at_least(self, 0, ("port", "device", "patience"))
        if self.all_devices and self.device is not None:
            raise UserError("--device and --all_devices exclude each other; give one of them.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """Settings of `evaluate`; what is not given is as in the run that made the distilled set."""

    distilled: str = setting(None, "A distilled.npz, or a file released with the KIP paper.")
    dataset: str | None = setting(None, "As for distill; that of the run if not given.")
    data_dir: str | None = setting(None, "Folder of the data set's own files.")
    preprocess: str | None = setting(
        None,
        "Only for a file without preprocessing.npz beside it: fitted to the training images.",
        ("standard", "zca"),
    )
    architecture: str | None = setting(None, "Evaluate with another architecture.")
    kernel: str | None = setting(None, "Evaluate with another kernel.", ("ntk", "nngp"))
    kernel_dtype: str | None = setting(
        None, "Evaluate in another precision.", ("float32", "float64")
    )
    ridge: float | None = setting(None, "Evaluate with another ridge.")
    engine: str = setting("auto", "What evaluates kernel blocks.", ENGINES)
    num_workers: int = setting(2, "Worker threads.")
    block_support: int | None = setting(None, "As for distill.")
    block_target: int | None = setting(None, "As for distill.")
    test_limit: int | None = setting(None, "Use only this many test images, by class.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaunchSettings:
    """Settings of `launch` beside those of the run that it launches."""

    cluster: str | None = setting(None, "hosts:FILE (by ssh), slurm or kubernetes.")
    dry_run: bool = setting(False, "Print what would be started; start and write nothing.")
    name: str = setting("kipper", "Slurm, Kubernetes: what jobs and objects are called.")
    gpus_per_worker: int = setting(1, "Slurm, Kubernetes: GPUs to ask for, for each worker.")
    ssh: str = setting(
        "ssh -o BatchMode=yes -o ServerAliveInterval=15",
        "Hosts: what is put before a host's name and a command, to run it there.",
    )
    python: str | None = setting(
        None, "Hosts, Slurm: the Python that has kipper, on every host; this one if not given."
    )
    directory: str | None = setting(
        None, "Hosts: the folder to work in, on every host; this one if not given."
    )
    sbatch: str | None = setting(
        None, "Slurm: more options of sbatch, as in partition=gpu,time=24:00:00,account=lab."
    )
    image: str | None = setting(None, "Kubernetes: image made of the Dockerfile.")
    namespace: str = setting("default", "Kubernetes: namespace of all objects.")
    volume: str | None = setting(
        None,
        "Kubernetes: CLAIM:FOLDER, where the coordinator mounts a PersistentVolumeClaim that "
        "holds the workdir and the data; a new claim at /kipper if not given.",
    )
    lp_launch_type: str | None = setting(
        None, "Instead of --cluster: a launch of Launchpad's own.", ("vertex_ai",)
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CertificatesSettings:
    """Settings of `certificates`."""

    folder: str = setting(None, "Folder to make; kipper certificates FOLDER says the same.")

    def check(self) -> None:
        """Raises a UserError where no folder is named."""
        if not self.folder:
            raise UserError("The folder to make is missing: kipper certificates FOLDER.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NodeSettings:
    """Settings of `node` beside those of the run that the node belongs to."""

    node: str = setting(None, "LABEL/INDEX of this node.")
    addresses: str = setting(None, "host:port of every node, as JSON by LABEL/INDEX.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplaySettings:
    """Settings of `replay`."""

    log: str = setting(None, "The logs/events.jsonl of a workdir.")
