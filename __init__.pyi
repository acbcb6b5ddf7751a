"""Distills image data sets with exact infinite-width convolutional kernels."""

# Written by `python -m kipper.launch.interface.stub`.

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin

from kipper.common.datasets import Dataset as Dataset
from kipper.common.errors import Interrupted as Interrupted
from kipper.common.errors import KipperError as KipperError
from kipper.common.errors import UserError as UserError
from kipper.common.notices import DataWarning as DataWarning
from kipper.launch.commands.evaluate import FileEvaluation
from kipper.launch.commands.natural import NaturalEvaluation
from kipper.launch.interface.comparing import RunTable
from kipper.launch.interface.given import Given, GivenImages
from kipper.launch.interface.progress import Progress
from kipper.launch.interface.runs import Callback

__version__: str
__all__: list[str]

class Distiller(ClassifierMixin, BaseEstimator):
    """A classifier that predicts by kernel ridge regression from a distilled training set.

    Attributes:
        result_: the `Result`; its scores are on training images.
        classes_: the C classes, sorted.
        n_features_in_: the size of the second axis of the images that `fit` saw.
    """

    result_: Result
    classes_: np.ndarray
    n_features_in_: int
    def __init__(
        self,
        *,
        image_shape: tuple[int, ...] | None = None,
        support_size: int | None = None,
        verbose: bool = False,
        preprocess: Literal["standard", "zca"] = "standard",
        architecture: str = "fc1",
        kernel: Literal["ntk", "nngp"] = "ntk",
        ridge: float = 1e-06,
        seed: int = 0,
        engine: str = "auto",
        kernel_dtype: Literal["float32", "float64"] = "float32",
        block_support: int | None = None,
        block_target: int | None = None,
        initial: str | None = None,
        support_init: Literal["natural", "noise"] = "natural",
        freeze_pixels: float = 0.0,
        sample_architectures: str | None = None,
        augment: str | None = None,
        learn_labels: bool = False,
        solve_labels_every: int | None = None,
        recipe: Literal["paper", "fast"] = "paper",
        loss: Literal["squared", "cross_entropy"] = "squared",
        average: float = 0.0,
        stop: Literal["steps", "plateau"] = "steps",
        patience: int = 500,
        steps: int = 1000,
        target_batch_size: int | None = None,
        optimiser: Literal["adam", "soap"] = "adam",
        learning_rate: float = 0.04,
        label_learning_rate: float | None = None,
        schedule: Literal[
            "constant", "linear", "cosine", "exponential", "warmup_cosine"
        ] = "constant",
        schedule_steps: int | None = None,
        schedule_end: float = 0.01,
        eval_every: int | None = None,
        launch: Literal["inprocess", "local_mt", "local_mp", "ray"] = "inprocess",
        ray_address: str = "local",
        ray_device: Literal["auto", "gpu", "cpu"] = "auto",
        num_workers: int | Literal["all"] = 2,
        threads: int | None = None,
        port: int | None = None,
        host: str | None = None,
        transport: Literal["courier", "grpc_tls"] = "courier",
        certificates: str | None = None,
        allow_open_network: bool = False,
        verify_fraction: float = 0.01,
        mixed_numerics: bool = False,
        chaos: str | None = None,
        dashboard_open: bool = False,
        log_format: Literal["text", "json"] = "text",
        overwrite: bool = False,
    ) -> None:
        """Sets the parameters, which `fit` checks.

        Args:
            image_shape: (height, width[, channels]) of images that come as rows of numbers, as in a
                pipeline; None takes rows as they are, for fully connected architectures.
            support_size: number of distilled images, a multiple of the number of classes; None: 10,
                or the multiple next below, and at least one of each class.
            verbose: as for `kipper.distill`.
            preprocess: Standardise each channel, or apply regularised ZCA (colour images). One of
                standard, zca.
            architecture: fcK, convnet, convnetK, convnet_gap, convnetK_gap, myrtle5, myrtle7,
                myrtle10, conv_vecK or conv_gapK (K is from 1 to 99, and of convnetK from 1 to 9),
                each also with _leaky, _erf or _gelu in place of its ReLU; or a network of your own:
                FILE.py:FUNCTION.
            kernel: Neural tangent kernel, or NNGP covariance. One of ntk, nngp.
            ridge: Regularisation, as a multiple of trace(K_ss) / support_size.
            seed: Seed of the initial draw and of every target batch.
            engine: Implementation of kernel blocks; auto takes the fastest. One of auto,
                neural_tangents, dense, banded_xla, banded_cpu, banded_cuda.
            kernel_dtype: Precision of kernel blocks and support images; the regression is always
                float64. One of float32, float64.
            block_support: Maximum number of support images in a kernel block; by default the
                engine's, or else one by memory.
            block_target: Maximum number of target images in a kernel block; by default the
                engine's, or else one by memory, and less in a step of few pairs, so that workers
                can share it.
            initial: Start from the images and labels of a distilled set: the folder of a run, a
                distilled.npz with its preprocessing.npz, or a file released with the KIP paper.
            support_init: Start from training images, or from noise. One of natural, noise.
            freeze_pixels: Share of each support image's pixels that start as noise and are never
                learned.
            sample_architectures: Draw the architecture of each step from architecture and these,
                separated by commas. Scores are those of architecture.
            augment: Augment each target image at random in every step, before preprocessing:
                flip,shift:SHARE,rotate:DEGREES,color:SHARE.
            learn_labels: Learn the labels too, with the same optimiser.
            solve_labels_every: Instead of learning the labels, solve for them in closed form from
                the step's targets, once in this many steps.
            recipe: Values for loss, average and learning_rate where you do not give them: paper,
                those of the KIP papers; fast, the cross-entropy and an average of the iterates,
                which reach the same accuracy in fewer steps. One of paper, fast.
            loss: The squared error of the predicted labels, or the cross-entropy of classes at a
                temperature that is learned too. One of squared, cross_entropy.
            average: Evaluate, save and show a moving average of images and labels. Each step keeps
                this share of it, such as 0.98; 0 for no average. Steps go on from the last iterate.
            stop: End after steps, or before that once the score on held-out training images has not
                risen for patience steps. One of steps, plateau.
            patience: With stop=plateau: steps without a better score on held-out images.
            steps: Number of gradient steps; a finished run resumes if it is given more.
            target_batch_size: Target images of a step, drawn for each step and balanced by class,
                at most all; by default 50 for each support image, and at most 5000.
            optimiser: Adam, or SOAP: Adam in the bases of the gradient's second moments along each
                axis of the images, which needs fewer steps on some data (docs/kip.md). One of adam,
                soap.
            learning_rate: Learning rate of the optimiser.
            label_learning_rate: Learning rate of learned labels; by default learning_rate.
            schedule: How learning rates change over the steps: the optax schedule of this name. One
                of constant, linear, cosine, exponential, warmup_cosine.
            schedule_steps: The step at which the schedule ends; steps may be smaller or larger, and
                the final rate then stays.
            schedule_end: The share of the learning rates that remains when the schedule ends.
            eval_every: Number of steps between evaluations; by default at steps 0, 1, 2, 4, 6, 8,
                12, 18, …, without evaluations of many images that would take over half the time of
                the steps.
            launch: Run workers in this process, as threads or processes of Launchpad, or as actors
                of Ray. One of inprocess, local_mt, local_mp, ray.
            ray_address: Ray: the cluster whose nodes the workers run on: local starts one on this
                machine for the time of the run; auto, HOST:PORT or ray://HOST:PORT is one that runs
                already.
            ray_device: Ray: one worker for each GPU, or workers that take CPUs alone; auto takes
                GPUs if the cluster has any. One of auto, gpu, cpu.
            num_workers: Number of workers to start; 0 with port waits for external workers; all, on
                Ray, is as many as the cluster has room for at any time.
            threads: Threads of a native engine in each worker; by default cores / workers.
            port: Port where external workers may join at any time: kipper worker
                --coordinator=HOST:PORT. By default no external workers may join.
            host: Name or address of this host for other hosts; by default its host name.
            transport: Protocol between coordinator and workers: Courier, for closed networks only,
                or gRPC with mutual TLS. One of courier, grpc_tls.
            certificates: Folder made by kipper certificates, for transport=grpc_tls.
            allow_open_network: Let Courier listen on a public network; a firewall must protect the
                port.
            verify_fraction: Share of kernel blocks that a second worker recomputes and compares;
                with 1, every number used has been confirmed by two workers.
            mixed_numerics: Let workers and coordinators take part although their arithmetic differs
                from that with which the run began: the result's bits then depend on which worker
                computed what, and verification compares unlike workers within rounding.
            chaos: Faults that the run injects into its own workers, without effect on results (for
                lies, this is certain only with verify_fraction=1):
                kill:20s,freeze:30s,drop:0.05,delay:200ms,corrupt:0.01,lie:0.01,seed=7.
            dashboard_open: Show the live page to anyone who can reach its address, without a token.
            log_format: Format of logs: lines of text, or one JSON object a line. One of text, json.
            overwrite: Remove the run that the workdir holds, and start afresh.
        """
        ...
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
    ) -> Distiller:
        """Distills a training set.

        Args:
            X: images (N, h, w[, c]), or rows of numbers (N, features); also pictures of Pillow and
                tensors of torch. uint8 is divided by 255.
            y: (N,) classes of any kind.

        Returns:
            The estimator itself.

        Raises:
            UserError: a parameter cannot be used, or the images or classes are too few.
            ValueError: as scikit-learn's, of arrays that no estimator can use.
        """
        ...
    def decision_function(
        self,
        X: ArrayLike,
    ) -> np.ndarray:
        """The predicted value of each class, (N, C); of two classes the difference, (N,)."""
        ...
    def predict(
        self,
        X: ArrayLike,
    ) -> np.ndarray:
        """The class (N,) with the largest value."""
        ...

class Result:
    """A distilled set, with its scores and its files.

    Attributes:
        images: distilled images (n, h, w, c), preprocessed, in the kernel's dtype.
        labels: (n, C) float64; those of a regression have the training targets' mean subtracted.
        temperature: predictions divided by it are logits of classes; None if none was learned.
        test_accuracy: share of the test images that the set predicts, 0 to 1; None for a
            regression, or if the run did not measure it.
        natural_accuracy: the same of n natural images with their own labels.
        test_r2, natural_r2: R² instead of accuracy for a regression; None for classes.
        step: gradient steps made; 0 for Label Solve; None if the file does not say.
        class_names: the names of the C classes; () for a regression or if they are unknown.
        summary: the content of result.json; {} without one.
        path: the set's file, beside which its preprocessing is.
        workdir: the folder of the run, or of the file. A temporary folder, made because you gave no
            workdir, is removed when neither this object nor its `Run` is used any more; `save`
            keeps it.
    """

    images: np.ndarray
    labels: np.ndarray
    temperature: float | None
    test_accuracy: float | None
    natural_accuracy: float | None
    test_r2: float | None
    natural_r2: float | None
    step: int | None
    summary: Mapping[str, Any]
    path: pathlib.Path
    workdir: pathlib.Path
    @property
    def class_names(
        self,
    ) -> tuple[str, ...]: ...
    @property
    def pixels(
        self,
    ) -> np.ndarray:
        """The images (n, h, w, c) as float32 in the space of the training images, for viewing.

        Raises:
            UserError: the set has no preprocessing.npz.
        """
        ...
    def decision_values(
        self,
        images: GivenImages,
    ) -> np.ndarray:
        """What the distilled set predicts for images: a value for each class, or the targets.

        Args:
            images: (N, h, w, c), (N, c, h, w) or (N, h, w), raw, on the scale of the training
                images; also as pictures of Pillow, tensors and lists.

        Returns:
            (N, C) float64. The largest value is at the predicted class; they are no probabilities.

        Raises:
            UserError: the images do not fit the set.
        """
        ...
    def predict(
        self,
        images: GivenImages,
    ) -> np.ndarray:
        """The class (N,) int64 that the set predicts for each image; of a regression the targets.

        Args:
            images: as for `decision_values`.

        Raises:
            UserError: the images do not fit the set.
        """
        ...
    def evaluate(
        self,
        *data: Given,
        data_dir: str | None = None,
        preprocess: Literal["standard", "zca"] | None = None,
        architecture: str | None = None,
        kernel: Literal["ntk", "nngp"] | None = None,
        kernel_dtype: Literal["float32", "float64"] | None = None,
        ridge: float | None = None,
        engine: str = "auto",
        num_workers: int = 2,
        block_support: int | None = None,
        block_target: int | None = None,
        test_limit: int | None = None,
    ) -> FileEvaluation:
        """Measures the set on test images, by default on those of its run.

        Args:
            *data: other data: a data set or its name, of which the test images are used; or images
                and labels, on the scale of the training images, in any form that
                `kipper.load_data` takes. All of them are used, unless `test_limit` is given or the
                data are a name.
            data_dir: Folder of the data set's original files.
            preprocess: Only for a file without preprocessing.npz beside it: fitted to the training
                images. One of standard, zca.
            architecture: Evaluate with another architecture.
            kernel: Evaluate with another kernel. One of ntk, nngp.
            kernel_dtype: Evaluate in another precision. One of float32, float64.
            ridge: Evaluate with another ridge.
            engine: Implementation of kernel blocks, as for distill. One of auto, neural_tangents,
                dense, banded_xla, banded_cpu, banded_cuda.
            num_workers: Number of worker threads.
            block_support: As for distill.
            block_target: As for distill.
            test_limit: Use only this many test images, balanced by class.

        Returns:
            `test_accuracy` or `test_r2`; `test.loss`, half the mean squared error;
            `agrees_with_record`, whether the run measured the same, or None if it measured with
            other settings or data; and `record()`, all of it for JSON.

        Raises:
            UserError: the data or a setting cannot be used, or they do not fit the set.
        """
        ...
    def natural(
        self,
        sizes: Sequence[int],
        *data: Given,
        seeds: int = 3,
        figure: str | os.PathLike[str] | None = None,
    ) -> NaturalEvaluation:
        """Measures numbers of natural images, to find how many would do as well as the set.

        Args:
            sizes: numbers of natural images, each a multiple of the number of classes.
            *data: as for `kipper.start`; by default those of the run.
            seeds: number of draws for each.
            figure: a PNG to draw, of the score against the number of images.

        Returns:
            `natural`, the scores by number; `comparison.needed`, the number that reaches the set's
            score, or None if it is more than the largest of `sizes`.

        Raises:
            UserError: a number cannot be drawn, or the run's data are not at hand.
        """
        ...
    def transfer(
        self,
        *data: Given,
        verbose: bool = True,
        data_dir: str | None = None,
        preprocess: Literal["standard", "zca"] | None = None,
        architecture: str | None = None,
        test_limit: int | None = None,
        output: str | None = None,
        width: int = 64,
        loss: Literal["mse", "cross_entropy"] = "mse",
        steps: int = 5000,
        batch_size: int = 100,
        l2: float = 0.001,
        max_lr_factor: float = 1.0,
        seeds: int = 3,
        curve_images: int = 500,
        all_kernels: bool = False,
        max_minutes: float = 5.0,
    ) -> dict[str, Any]:
        """Trains finite networks on the set and tests them.

        transfer.json, its curve and a figure go to `output`.

        Args:
            *data: as for `kipper.start`; by default those of the run.
            verbose: whether to show progress: its newest line in a notebook, lines on stderr
                elsewhere.
            data_dir: Folder of the data set's original files.
            preprocess: Only for a file without preprocessing.npz beside it: fitted to the training
                images. One of standard, zca.
            architecture: The network to train, by name; by default that of the run.
            test_limit: Use only this many test images, balanced by class.
            output: Folder for the results; by default that of the distilled set.
            width: Number of channels, or units, of each hidden layer; 1024 in the paper.
            loss: Half the mean squared error to the labels, or the cross-entropy to the class of
                each label's largest entry. One of mse, cross_entropy.
            steps: Number of steps of gradient descent with momentum 0.9.
            batch_size: Maximum number of distilled images in a step.
            l2: Weight decay: l2 / 2 times the squared norm of all parameters is added to the loss.
            max_lr_factor: Initial learning rate, as a share of the largest that is stable for mse;
                cross_entropy needs about 1 / classes.
            seeds: Number of networks to train; their seeds start from 0.
            curve_images: Number of validation images, and of test images, for each point of the
                curve.
            all_kernels: Train nothing: evaluate the set with the kernels of many architectures.
            max_minutes: With all_kernels: skip a kernel that would take longer than this.

        Returns:
            The content of transfer.json: `test_accuracy`, the mean over networks, its
            `test_accuracy_spread`, the `networks`, and `kernel_regression` for comparison.

        Raises:
            UserError: a setting cannot be used, the run's data are not at hand, or the set is of a
                regression.
        """
        ...
    def export(
        self,
        to: str,
        path: str | os.PathLike[str],
    ) -> pathlib.Path:
        """Writes the set in a format that other programs read.

        Args:
            to: "released", like the paper's files; "images", a folder of PNGs and labels.csv;
                "safetensors"; or "torchvision", an .npz of pixels and classes.
            path: the folder to write to (released, images), or the file.

        Returns:
            The file or folder that was written.

        Raises:
            UserError: the format is unknown, or `path` cannot be written.
        """
        ...
    def save(
        self,
        path: str | os.PathLike[str],
    ) -> pathlib.Path:
        """Keeps the result, to be read by `kipper.load`.

        Args:
            path: FILE.npz for the set alone, with FILE.preprocessing.npz beside it; or a new folder
                for a copy of everything in `workdir`, where the run can be resumed.

        Returns:
            The path.

        Raises:
            UserError: the folder exists, or cannot be written.
        """
        ...
    def plot(
        self,
        figure: str = "distilled",
    ) -> Figure:
        """Draws a figure of the run's report.

        Args:
            figure: "distilled", images before and after, with their labels; "labels"; "curve", the
                scores by step; "spectrum", the eigenvalues of the kernel; or "timeline", what the
                workers did.

        Returns:
            A matplotlib figure, which notebooks show and `savefig` writes.

        Raises:
            UserError: the run has no such figure.
        """
        ...
    def report(
        self,
    ) -> pathlib.Path:
        """Draws the run's figures again and writes its report.html; returns its path.

        Raises:
            UserError: the set is not in the folder of a run.
        """
        ...

class Run:
    """A run that goes on in the background.

    At the end of the program it is stopped, so wait for it. What it has computed by then is in its
    folder, and the same call with that `workdir` resumes it.
    """
    @property
    def workdir(
        self,
    ) -> pathlib.Path:
        """The run's folder; a temporary one, if you gave none, goes with this object and result."""
        ...
    @property
    def done(
        self,
    ) -> bool:
        """Whether the run has ended, in whichever way."""
        ...
    @property
    def page(
        self,
    ) -> str | None:
        """The address of the live page; None before it is served, and after the run."""
        ...
    @property
    def progress(
        self,
    ) -> Progress:
        """How far the run is."""
        ...
    def stop(
        self,
        *,
        now: bool = False,
    ) -> None:
        """Asks the run to stop after its step, or `now` between two kernel blocks; returns at once.

        `wait` then returns the set that was evaluated last.
        """
        ...
    def wait(
        self,
        timeout: float | None = None,
    ) -> Result:
        """Waits for the run's end, and returns its result.

        Ctrl-C stops the run after its step, a second one at once; then KeyboardInterrupt is raised,
        and the same call with the same `workdir` resumes the run. SIGTERM and SIGHUP do the same
        and end the program.

        Args:
            timeout: seconds; None waits for as long as it takes.

        Raises:
            TimeoutError: the run has not ended by then; it goes on.
            UserError: the data, a setting or the workdir cannot be used.
            KipperError: the run failed; the message says why.
            Interrupted: the run was stopped before it had a set to return.
        """
        ...

def compare(
    *runs: Result | str | os.PathLike[str],
) -> RunTable:
    """Tabulates runs by data, kernel, algorithm and number of images, with their scores.

    Args:
        *runs: results, or folders of runs, finished or not.

    Raises:
        UserError: a folder holds no run or one without a score, or runs on classes are mixed with
            runs on targets.
    """
    ...

def distill(
    *data: Given,
    workdir: str | os.PathLike[str] | None = None,
    verbose: bool = True,
    callback: Callback | None = None,
    test_size: float = 0.2,
    class_names: Sequence[str] | None = None,
    preprocess: Literal["standard", "zca"] = "standard",
    architecture: str = "fc1",
    kernel: Literal["ntk", "nngp"] = "ntk",
    support_size: int = 10,
    ridge: float = 1e-06,
    seed: int = 0,
    engine: str = "auto",
    kernel_dtype: Literal["float32", "float64"] = "float32",
    block_support: int | None = None,
    block_target: int | None = None,
    train_limit: int | None = None,
    test_limit: int | None = None,
    initial: str | None = None,
    support_init: Literal["natural", "noise"] = "natural",
    freeze_pixels: float = 0.0,
    sample_architectures: str | None = None,
    augment: str | None = None,
    learn_labels: bool = False,
    solve_labels_every: int | None = None,
    recipe: Literal["paper", "fast"] = "paper",
    loss: Literal["squared", "cross_entropy"] = "squared",
    average: float = 0.0,
    stop: Literal["steps", "plateau"] = "steps",
    patience: int = 500,
    steps: int = 1000,
    target_batch_size: int | None = None,
    optimiser: Literal["adam", "soap"] = "adam",
    learning_rate: float = 0.04,
    label_learning_rate: float | None = None,
    schedule: Literal["constant", "linear", "cosine", "exponential", "warmup_cosine"] = "constant",
    schedule_steps: int | None = None,
    schedule_end: float = 0.01,
    eval_every: int | None = None,
    data_dir: str | None = None,
    launch: Literal["inprocess", "local_mt", "local_mp", "ray"] = "inprocess",
    ray_address: str = "local",
    ray_device: Literal["auto", "gpu", "cpu"] = "auto",
    num_workers: int | Literal["all"] = 2,
    threads: int | None = None,
    port: int | None = None,
    host: str | None = None,
    transport: Literal["courier", "grpc_tls"] = "courier",
    certificates: str | None = None,
    allow_open_network: bool = False,
    verify_fraction: float = 0.01,
    mixed_numerics: bool = False,
    chaos: str | None = None,
    dashboard: str = "127.0.0.1:0",
    dashboard_open: bool = False,
    log_format: Literal["text", "json"] = "text",
    overwrite: bool = False,
) -> Result:
    """Distills a training set by KIP: `start` and `wait`.

    Args:
        *data: see `start`.
        workdir: see `start`.
        verbose: see `start`.
        callback: see `start`.
        test_size: see `start`.
        class_names: see `load_data`.
        preprocess: Standardise each channel, or apply regularised ZCA (colour images). One of
            standard, zca.
        architecture: fcK, convnet, convnetK, convnet_gap, convnetK_gap, myrtle5, myrtle7,
            myrtle10, conv_vecK or conv_gapK (K is from 1 to 99, and of convnetK from 1 to 9),
            each also with _leaky, _erf or _gelu in place of its ReLU; or a network of your own:
            FILE.py:FUNCTION.
        kernel: Neural tangent kernel, or NNGP covariance. One of ntk, nngp.
        support_size: Number of support images, over all classes; a multiple of the number of
            classes.
        ridge: Regularisation, as a multiple of trace(K_ss) / support_size.
        seed: Seed of the initial draw and of every target batch.
        engine: Implementation of kernel blocks; auto takes the fastest. One of auto,
            neural_tangents, dense, banded_xla, banded_cpu, banded_cuda.
        kernel_dtype: Precision of kernel blocks and support images; the regression is always
            float64. One of float32, float64.
        block_support: Maximum number of support images in a kernel block; by default the
            engine's, or else one by memory.
        block_target: Maximum number of target images in a kernel block; by default the
            engine's, or else one by memory, and less in a step of few pairs, so that workers
            can share it.
        train_limit: Use only this many training images, balanced by class; by default all.
        test_limit: Use only this many test images, balanced by class; by default all.
        initial: Start from the images and labels of a distilled set: the folder of a run, a
            distilled.npz with its preprocessing.npz, or a file released with the KIP paper.
        support_init: Start from training images, or from noise. One of natural, noise.
        freeze_pixels: Share of each support image's pixels that start as noise and are never
            learned.
        sample_architectures: Draw the architecture of each step from architecture and these,
            separated by commas. Scores are those of architecture.
        augment: Augment each target image at random in every step, before preprocessing:
            flip,shift:SHARE,rotate:DEGREES,color:SHARE.
        learn_labels: Learn the labels too, with the same optimiser.
        solve_labels_every: Instead of learning the labels, solve for them in closed form from
            the step's targets, once in this many steps.
        recipe: Values for loss, average and learning_rate where you do not give them: paper,
            those of the KIP papers; fast, the cross-entropy and an average of the iterates,
            which reach the same accuracy in fewer steps. One of paper, fast.
        loss: The squared error of the predicted labels, or the cross-entropy of classes at a
            temperature that is learned too. One of squared, cross_entropy.
        average: Evaluate, save and show a moving average of images and labels. Each step keeps
            this share of it, such as 0.98; 0 for no average. Steps go on from the last iterate.
        stop: End after steps, or before that once the score on held-out training images has not
            risen for patience steps. One of steps, plateau.
        patience: With stop=plateau: steps without a better score on held-out images.
        steps: Number of gradient steps; a finished run resumes if it is given more.
        target_batch_size: Target images of a step, drawn for each step and balanced by class,
            at most all; by default 50 for each support image, and at most 5000.
        optimiser: Adam, or SOAP: Adam in the bases of the gradient's second moments along each
            axis of the images, which needs fewer steps on some data (docs/kip.md). One of adam,
            soap.
        learning_rate: Learning rate of the optimiser.
        label_learning_rate: Learning rate of learned labels; by default learning_rate.
        schedule: How learning rates change over the steps: the optax schedule of this name. One
            of constant, linear, cosine, exponential, warmup_cosine.
        schedule_steps: The step at which the schedule ends; steps may be smaller or larger, and
            the final rate then stays.
        schedule_end: The share of the learning rates that remains when the schedule ends.
        eval_every: Number of steps between evaluations; by default at steps 0, 1, 2, 4, 6, 8,
            12, 18, …, without evaluations of many images that would take over half the time of
            the steps.
        data_dir: Folder of the data set's original files.
        launch: Run workers in this process, as threads or processes of Launchpad, or as actors
            of Ray. One of inprocess, local_mt, local_mp, ray.
        ray_address: Ray: the cluster whose nodes the workers run on: local starts one on this
            machine for the time of the run; auto, HOST:PORT or ray://HOST:PORT is one that runs
            already.
        ray_device: Ray: one worker for each GPU, or workers that take CPUs alone; auto takes
            GPUs if the cluster has any. One of auto, gpu, cpu.
        num_workers: Number of workers to start; 0 with port waits for external workers; all, on
            Ray, is as many as the cluster has room for at any time.
        threads: Threads of a native engine in each worker; by default cores / workers.
        port: Port where external workers may join at any time: kipper worker
            --coordinator=HOST:PORT. By default no external workers may join.
        host: Name or address of this host for other hosts; by default its host name.
        transport: Protocol between coordinator and workers: Courier, for closed networks only,
            or gRPC with mutual TLS. One of courier, grpc_tls.
        certificates: Folder made by kipper certificates, for transport=grpc_tls.
        allow_open_network: Let Courier listen on a public network; a firewall must protect the
            port.
        verify_fraction: Share of kernel blocks that a second worker recomputes and compares;
            with 1, every number used has been confirmed by two workers.
        mixed_numerics: Let workers and coordinators take part although their arithmetic differs
            from that with which the run began: the result's bits then depend on which worker
            computed what, and verification compares unlike workers within rounding.
        chaos: Faults that the run injects into its own workers, without effect on results (for
            lies, this is certain only with verify_fraction=1):
            kill:20s,freeze:30s,drop:0.05,delay:200ms,corrupt:0.01,lie:0.01,seed=7.
        dashboard: Address HOST:PORT of the run's live page; port 0 takes a free port, none
            disables the page. At addresses that other machines can reach, the page needs the
            token in the URL that the run prints.
        dashboard_open: Show the live page to anyone who can reach its address, without a token.
        log_format: Format of logs: lines of text, or one JSON object a line. One of text, json.
        overwrite: Remove the run that the workdir holds, and start afresh.

    Raises:
        UserError: the data, a setting or the workdir cannot be used.
        KipperError: the run failed; the message says why.
        KeyboardInterrupt: by Ctrl-C, after the run has stopped.
    """
    ...

def kernel(
    x1: np.ndarray,
    x2: np.ndarray | None = None,
    *,
    architecture: str = "convnet",
    kernel: str = "ntk",
    dtype: str | None = None,
    engine: str = "auto",
) -> np.ndarray:
    """K(x1, x2) of an infinitely wide network.

    Args:
        x1: images (n, h, w, c) or (n, h, w), used unchanged: standardise them yourself; n may be 0.
            For fully connected networks also rows of numbers (n, features).
        x2: as x1, m of them; None stands for x1, at half the cost.
        architecture: as the flag of `kipper distill`.
        kernel: "ntk" or "nngp".
        dtype: "float32" or "float64", of the arithmetic and the result. By default both are
            float32, but K(x1, x1) is a float64 array: distances of images that nearly coincide lie
            below the rounding of float32.
        engine: as the flag of `kipper distill`.

    Returns:
        (n, m). K(x1, x1) is symmetric. Numbers beyond the dtype's range are infinite or NaN.

    Raises:
        UserError: a name is unknown, or the images do not fit it or each other.
    """
    ...

def kernel_vjp(
    x1: np.ndarray,
    x2: np.ndarray,
    cotangent: np.ndarray,
    *,
    architecture: str = "convnet",
    kernel: str = "ntk",
    dtype: str = "float32",
    engine: str = "auto",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """K(x1, x2), and the gradient of sum(cotangent * K) with respect to both images.

    For the gradient of any scalar of K, `cotangent` (n, m) is its derivative with respect to K. The
    gradient through K(x, x) is the sum of both.

    Returns:
        K (n, m), and arrays of the shapes of x1 and x2, all in `dtype`.

    Raises:
        UserError: see `kernel`; or the cotangent is not of the kernel's shape.
    """
    ...

def load(
    path: str | os.PathLike[str],
) -> Result:
    """Reads a result from files.

    Args:
        path: the folder of a run, or a distilled.npz, best.npz or file released with the KIP paper.
            For a run that was stopped, the newest checkpoint is read.

    Raises:
        UserError: there is no set, or it cannot be read.
    """
    ...

def load_data(
    *data: Given,
    data_dir: str | os.PathLike[str] | None = None,
    test_size: float = 0.2,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
) -> Dataset:
    """Loads a data set by its name, or makes one of data in memory.

    Args:
        *data: a name: digits, mnist5k, mnist, fashion_mnist, cifar10, cifar100, svhn_cropped,
            npz:FILE or folder:PATH[@SIZE]; data_dir may follow. Or images and labels: training and
            test part, each a pair (images, labels), a data frame, a data set of torch, torchvision,
            TensorFlow or Hugging Face, or a torch loader; the training part alone; images, labels;
            or x_train, y_train, x_test, y_test. Images are (N, height, width[, channels]), channels
            first if that is clear, (N, features), or pictures of Pillow; uint8 is divided by 255,
            floats are used unchanged. Labels are integers from 0, strings, booleans or one-hot
            rows; or floats, (N,) or (N, k), the targets of a regression.
        data_dir: the folder with the original files of mnist, fashion_mnist, cifar10, cifar100 or
            svhn_cropped; nothing is downloaded.
        test_size: if there is no test part, the share of the images, or from 1 on their number,
            that is set apart as one, with the same share of each class.
        class_names: the names of integer classes, or the order of classes that are strings.
        seed: the seed of the draw of the test images.

    Returns:
        The data set: `x_train` and `x_test` are float32 (N, height, width, channels), `y_train` and
        `y_test` classes, int64 (N,) from 0, or targets, float64 (N, k).

    Raises:
        UserError: the name is unknown, a file is missing, corrupt or of unexpected content, or the
            data are of no known kind or do not fit each other.
    """
    ...

def solve_labels(
    *data: Given,
    workdir: str | os.PathLike[str] | None = None,
    verbose: bool = True,
    callback: Callback | None = None,
    test_size: float = 0.2,
    class_names: Sequence[str] | None = None,
    preprocess: Literal["standard", "zca"] = "standard",
    architecture: str = "fc1",
    kernel: Literal["ntk", "nngp"] = "ntk",
    support_size: int = 10,
    ridge: float = 1e-06,
    seed: int = 0,
    engine: str = "auto",
    kernel_dtype: Literal["float32", "float64"] = "float32",
    block_support: int | None = None,
    block_target: int | None = None,
    train_limit: int | None = None,
    test_limit: int | None = None,
    label_ridge: Literal["paper", "notebook"] = "paper",
    data_dir: str | None = None,
    launch: Literal["inprocess", "local_mt", "local_mp", "ray"] = "inprocess",
    ray_address: str = "local",
    ray_device: Literal["auto", "gpu", "cpu"] = "auto",
    num_workers: int | Literal["all"] = 2,
    threads: int | None = None,
    port: int | None = None,
    host: str | None = None,
    transport: Literal["courier", "grpc_tls"] = "courier",
    certificates: str | None = None,
    allow_open_network: bool = False,
    verify_fraction: float = 0.01,
    mixed_numerics: bool = False,
    chaos: str | None = None,
    dashboard: str = "127.0.0.1:0",
    dashboard_open: bool = False,
    log_format: Literal["text", "json"] = "text",
    overwrite: bool = False,
) -> Result:
    """Solves for the labels of natural support images: `start_solve_labels` and `wait`.

    Args:
        *data: see `start`.
        workdir: see `start`.
        verbose: see `start`.
        callback: called once, at the end; see `start`.
        test_size: see `start`.
        class_names: see `load_data`.
        preprocess: Standardise each channel, or apply regularised ZCA (colour images). One of
            standard, zca.
        architecture: fcK, convnet, convnetK, convnet_gap, convnetK_gap, myrtle5, myrtle7,
            myrtle10, conv_vecK or conv_gapK (K is from 1 to 99, and of convnetK from 1 to 9),
            each also with _leaky, _erf or _gelu in place of its ReLU; or a network of your own:
            FILE.py:FUNCTION.
        kernel: Neural tangent kernel, or NNGP covariance. One of ntk, nngp.
        support_size: Number of support images, over all classes; a multiple of the number of
            classes.
        ridge: Regularisation, as a multiple of trace(K_ss) / support_size.
        seed: Seed of the initial draw and of every target batch.
        engine: Implementation of kernel blocks; auto takes the fastest. One of auto,
            neural_tangents, dense, banded_xla, banded_cpu, banded_cuda.
        kernel_dtype: Precision of kernel blocks and support images; the regression is always
            float64. One of float32, float64.
        block_support: Maximum number of support images in a kernel block; by default the
            engine's, or else one by memory.
        block_target: Maximum number of target images in a kernel block; by default the
            engine's, or else one by memory, and less in a step of few pairs, so that workers
            can share it.
        train_limit: Use only this many training images, balanced by class; by default all.
        test_limit: Use only this many test images, balanced by class; by default all.
        label_ridge: paper: minimise the loss that evaluation uses; notebook: the released
            notebook's formula, with an absolute 1e-6 / support_size on both factors. One of
            paper, notebook.
        data_dir: Folder of the data set's original files.
        launch: Run workers in this process, as threads or processes of Launchpad, or as actors
            of Ray. One of inprocess, local_mt, local_mp, ray.
        ray_address: Ray: the cluster whose nodes the workers run on: local starts one on this
            machine for the time of the run; auto, HOST:PORT or ray://HOST:PORT is one that runs
            already.
        ray_device: Ray: one worker for each GPU, or workers that take CPUs alone; auto takes
            GPUs if the cluster has any. One of auto, gpu, cpu.
        num_workers: Number of workers to start; 0 with port waits for external workers; all, on
            Ray, is as many as the cluster has room for at any time.
        threads: Threads of a native engine in each worker; by default cores / workers.
        port: Port where external workers may join at any time: kipper worker
            --coordinator=HOST:PORT. By default no external workers may join.
        host: Name or address of this host for other hosts; by default its host name.
        transport: Protocol between coordinator and workers: Courier, for closed networks only,
            or gRPC with mutual TLS. One of courier, grpc_tls.
        certificates: Folder made by kipper certificates, for transport=grpc_tls.
        allow_open_network: Let Courier listen on a public network; a firewall must protect the
            port.
        verify_fraction: Share of kernel blocks that a second worker recomputes and compares;
            with 1, every number used has been confirmed by two workers.
        mixed_numerics: Let workers and coordinators take part although their arithmetic differs
            from that with which the run began: the result's bits then depend on which worker
            computed what, and verification compares unlike workers within rounding.
        chaos: Faults that the run injects into its own workers, without effect on results (for
            lies, this is certain only with verify_fraction=1):
            kill:20s,freeze:30s,drop:0.05,delay:200ms,corrupt:0.01,lie:0.01,seed=7.
        dashboard: Address HOST:PORT of the run's live page; port 0 takes a free port, none
            disables the page. At addresses that other machines can reach, the page needs the
            token in the URL that the run prints.
        dashboard_open: Show the live page to anyone who can reach its address, without a token.
        log_format: Format of logs: lines of text, or one JSON object a line. One of text, json.
        overwrite: Remove the run that the workdir holds, and start afresh.

    Raises:
        UserError: the data, a setting or the workdir cannot be used.
        KipperError: the run failed; the message says why.
        KeyboardInterrupt: by Ctrl-C, after the run has stopped.
    """
    ...

def start(
    *data: Given,
    workdir: str | os.PathLike[str] | None = None,
    verbose: bool = True,
    callback: Callback | None = None,
    test_size: float = 0.2,
    class_names: Sequence[str] | None = None,
    preprocess: Literal["standard", "zca"] = "standard",
    architecture: str = "fc1",
    kernel: Literal["ntk", "nngp"] = "ntk",
    support_size: int = 10,
    ridge: float = 1e-06,
    seed: int = 0,
    engine: str = "auto",
    kernel_dtype: Literal["float32", "float64"] = "float32",
    block_support: int | None = None,
    block_target: int | None = None,
    train_limit: int | None = None,
    test_limit: int | None = None,
    initial: str | None = None,
    support_init: Literal["natural", "noise"] = "natural",
    freeze_pixels: float = 0.0,
    sample_architectures: str | None = None,
    augment: str | None = None,
    learn_labels: bool = False,
    solve_labels_every: int | None = None,
    recipe: Literal["paper", "fast"] = "paper",
    loss: Literal["squared", "cross_entropy"] = "squared",
    average: float = 0.0,
    stop: Literal["steps", "plateau"] = "steps",
    patience: int = 500,
    steps: int = 1000,
    target_batch_size: int | None = None,
    optimiser: Literal["adam", "soap"] = "adam",
    learning_rate: float = 0.04,
    label_learning_rate: float | None = None,
    schedule: Literal["constant", "linear", "cosine", "exponential", "warmup_cosine"] = "constant",
    schedule_steps: int | None = None,
    schedule_end: float = 0.01,
    eval_every: int | None = None,
    data_dir: str | None = None,
    launch: Literal["inprocess", "local_mt", "local_mp", "ray"] = "inprocess",
    ray_address: str = "local",
    ray_device: Literal["auto", "gpu", "cpu"] = "auto",
    num_workers: int | Literal["all"] = 2,
    threads: int | None = None,
    port: int | None = None,
    host: str | None = None,
    transport: Literal["courier", "grpc_tls"] = "courier",
    certificates: str | None = None,
    allow_open_network: bool = False,
    verify_fraction: float = 0.01,
    mixed_numerics: bool = False,
    chaos: str | None = None,
    dashboard: str = "127.0.0.1:0",
    dashboard_open: bool = False,
    log_format: Literal["text", "json"] = "text",
    overwrite: bool = False,
) -> Run:
    """Starts to distill a training set by KIP, and returns at once; `wait` has the result.

    Args:
        *data: a data set of `load_data`, or all that it takes: the name of one; images and labels
            in pairs, data frames, data sets of torch, torchvision or Hugging Face, or loaders, as
            training and test part or as one of which a part is set apart; or the arrays x_train,
            y_train, x_test, y_test. The test part is only ever evaluated.
        workdir: folder for all files, where the same call resumes; by default a temporary folder,
            which goes with the run and its result.
        verbose: whether to show progress: a bar on a terminal, images as they form in a notebook,
            and lines elsewhere, on stderr.
        callback: called as callback(step, metrics) after each evaluation, in a thread of the run,
            which waits for it; metrics has loss, train_accuracy, test_accuracy (or train_r2,
            test_r2) and seconds. If it returns True, the run stops, with the set of that step. With
            launch="local_mp" or "local_mt" the run goes on meanwhile.
        test_size: the share, or the number, of images to set apart for testing if the data have no
            test part, by `seed`.
        class_names: see `load_data`.
        preprocess: Standardise each channel, or apply regularised ZCA (colour images). One of
            standard, zca.
        architecture: fcK, convnet, convnetK, convnet_gap, convnetK_gap, myrtle5, myrtle7,
            myrtle10, conv_vecK or conv_gapK (K is from 1 to 99, and of convnetK from 1 to 9),
            each also with _leaky, _erf or _gelu in place of its ReLU; or a network of your own:
            FILE.py:FUNCTION.
        kernel: Neural tangent kernel, or NNGP covariance. One of ntk, nngp.
        support_size: Number of support images, over all classes; a multiple of the number of
            classes.
        ridge: Regularisation, as a multiple of trace(K_ss) / support_size.
        seed: Seed of the initial draw and of every target batch.
        engine: Implementation of kernel blocks; auto takes the fastest. One of auto,
            neural_tangents, dense, banded_xla, banded_cpu, banded_cuda.
        kernel_dtype: Precision of kernel blocks and support images; the regression is always
            float64. One of float32, float64.
        block_support: Maximum number of support images in a kernel block; by default the
            engine's, or else one by memory.
        block_target: Maximum number of target images in a kernel block; by default the
            engine's, or else one by memory, and less in a step of few pairs, so that workers
            can share it.
        train_limit: Use only this many training images, balanced by class; by default all.
        test_limit: Use only this many test images, balanced by class; by default all.
        initial: Start from the images and labels of a distilled set: the folder of a run, a
            distilled.npz with its preprocessing.npz, or a file released with the KIP paper.
        support_init: Start from training images, or from noise. One of natural, noise.
        freeze_pixels: Share of each support image's pixels that start as noise and are never
            learned.
        sample_architectures: Draw the architecture of each step from architecture and these,
            separated by commas. Scores are those of architecture.
        augment: Augment each target image at random in every step, before preprocessing:
            flip,shift:SHARE,rotate:DEGREES,color:SHARE.
        learn_labels: Learn the labels too, with the same optimiser.
        solve_labels_every: Instead of learning the labels, solve for them in closed form from
            the step's targets, once in this many steps.
        recipe: Values for loss, average and learning_rate where you do not give them: paper,
            those of the KIP papers; fast, the cross-entropy and an average of the iterates,
            which reach the same accuracy in fewer steps. One of paper, fast.
        loss: The squared error of the predicted labels, or the cross-entropy of classes at a
            temperature that is learned too. One of squared, cross_entropy.
        average: Evaluate, save and show a moving average of images and labels. Each step keeps
            this share of it, such as 0.98; 0 for no average. Steps go on from the last iterate.
        stop: End after steps, or before that once the score on held-out training images has not
            risen for patience steps. One of steps, plateau.
        patience: With stop=plateau: steps without a better score on held-out images.
        steps: Number of gradient steps; a finished run resumes if it is given more.
        target_batch_size: Target images of a step, drawn for each step and balanced by class,
            at most all; by default 50 for each support image, and at most 5000.
        optimiser: Adam, or SOAP: Adam in the bases of the gradient's second moments along each
            axis of the images, which needs fewer steps on some data (docs/kip.md). One of adam,
            soap.
        learning_rate: Learning rate of the optimiser.
        label_learning_rate: Learning rate of learned labels; by default learning_rate.
        schedule: How learning rates change over the steps: the optax schedule of this name. One
            of constant, linear, cosine, exponential, warmup_cosine.
        schedule_steps: The step at which the schedule ends; steps may be smaller or larger, and
            the final rate then stays.
        schedule_end: The share of the learning rates that remains when the schedule ends.
        eval_every: Number of steps between evaluations; by default at steps 0, 1, 2, 4, 6, 8,
            12, 18, …, without evaluations of many images that would take over half the time of
            the steps.
        data_dir: Folder of the data set's original files.
        launch: Run workers in this process, as threads or processes of Launchpad, or as actors
            of Ray. One of inprocess, local_mt, local_mp, ray.
        ray_address: Ray: the cluster whose nodes the workers run on: local starts one on this
            machine for the time of the run; auto, HOST:PORT or ray://HOST:PORT is one that runs
            already.
        ray_device: Ray: one worker for each GPU, or workers that take CPUs alone; auto takes
            GPUs if the cluster has any. One of auto, gpu, cpu.
        num_workers: Number of workers to start; 0 with port waits for external workers; all, on
            Ray, is as many as the cluster has room for at any time.
        threads: Threads of a native engine in each worker; by default cores / workers.
        port: Port where external workers may join at any time: kipper worker
            --coordinator=HOST:PORT. By default no external workers may join.
        host: Name or address of this host for other hosts; by default its host name.
        transport: Protocol between coordinator and workers: Courier, for closed networks only,
            or gRPC with mutual TLS. One of courier, grpc_tls.
        certificates: Folder made by kipper certificates, for transport=grpc_tls.
        allow_open_network: Let Courier listen on a public network; a firewall must protect the
            port.
        verify_fraction: Share of kernel blocks that a second worker recomputes and compares;
            with 1, every number used has been confirmed by two workers.
        mixed_numerics: Let workers and coordinators take part although their arithmetic differs
            from that with which the run began: the result's bits then depend on which worker
            computed what, and verification compares unlike workers within rounding.
        chaos: Faults that the run injects into its own workers, without effect on results (for
            lies, this is certain only with verify_fraction=1):
            kill:20s,freeze:30s,drop:0.05,delay:200ms,corrupt:0.01,lie:0.01,seed=7.
        dashboard: Address HOST:PORT of the run's live page; port 0 takes a free port, none
            disables the page. At addresses that other machines can reach, the page needs the
            token in the URL that the run prints.
        dashboard_open: Show the live page to anyone who can reach its address, without a token.
        log_format: Format of logs: lines of text, or one JSON object a line. One of text, json.
        overwrite: Remove the run that the workdir holds, and start afresh.

    Raises:
        UserError: the data or a setting cannot be used; `wait` raises those of the workdir.
    """
    ...

def start_solve_labels(
    *data: Given,
    workdir: str | os.PathLike[str] | None = None,
    verbose: bool = True,
    callback: Callback | None = None,
    test_size: float = 0.2,
    class_names: Sequence[str] | None = None,
    preprocess: Literal["standard", "zca"] = "standard",
    architecture: str = "fc1",
    kernel: Literal["ntk", "nngp"] = "ntk",
    support_size: int = 10,
    ridge: float = 1e-06,
    seed: int = 0,
    engine: str = "auto",
    kernel_dtype: Literal["float32", "float64"] = "float32",
    block_support: int | None = None,
    block_target: int | None = None,
    train_limit: int | None = None,
    test_limit: int | None = None,
    label_ridge: Literal["paper", "notebook"] = "paper",
    data_dir: str | None = None,
    launch: Literal["inprocess", "local_mt", "local_mp", "ray"] = "inprocess",
    ray_address: str = "local",
    ray_device: Literal["auto", "gpu", "cpu"] = "auto",
    num_workers: int | Literal["all"] = 2,
    threads: int | None = None,
    port: int | None = None,
    host: str | None = None,
    transport: Literal["courier", "grpc_tls"] = "courier",
    certificates: str | None = None,
    allow_open_network: bool = False,
    verify_fraction: float = 0.01,
    mixed_numerics: bool = False,
    chaos: str | None = None,
    dashboard: str = "127.0.0.1:0",
    dashboard_open: bool = False,
    log_format: Literal["text", "json"] = "text",
    overwrite: bool = False,
) -> Run:
    """Starts to solve for the labels of natural support images (Label Solve); see `start`.

    Args:
        *data: see `start`.
        workdir: see `start`.
        verbose: see `start`.
        callback: called once, at the end; see `start`.
        test_size: see `start`.
        class_names: see `load_data`.
        preprocess: Standardise each channel, or apply regularised ZCA (colour images). One of
            standard, zca.
        architecture: fcK, convnet, convnetK, convnet_gap, convnetK_gap, myrtle5, myrtle7,
            myrtle10, conv_vecK or conv_gapK (K is from 1 to 99, and of convnetK from 1 to 9),
            each also with _leaky, _erf or _gelu in place of its ReLU; or a network of your own:
            FILE.py:FUNCTION.
        kernel: Neural tangent kernel, or NNGP covariance. One of ntk, nngp.
        support_size: Number of support images, over all classes; a multiple of the number of
            classes.
        ridge: Regularisation, as a multiple of trace(K_ss) / support_size.
        seed: Seed of the initial draw and of every target batch.
        engine: Implementation of kernel blocks; auto takes the fastest. One of auto,
            neural_tangents, dense, banded_xla, banded_cpu, banded_cuda.
        kernel_dtype: Precision of kernel blocks and support images; the regression is always
            float64. One of float32, float64.
        block_support: Maximum number of support images in a kernel block; by default the
            engine's, or else one by memory.
        block_target: Maximum number of target images in a kernel block; by default the
            engine's, or else one by memory, and less in a step of few pairs, so that workers
            can share it.
        train_limit: Use only this many training images, balanced by class; by default all.
        test_limit: Use only this many test images, balanced by class; by default all.
        label_ridge: paper: minimise the loss that evaluation uses; notebook: the released
            notebook's formula, with an absolute 1e-6 / support_size on both factors. One of
            paper, notebook.
        data_dir: Folder of the data set's original files.
        launch: Run workers in this process, as threads or processes of Launchpad, or as actors
            of Ray. One of inprocess, local_mt, local_mp, ray.
        ray_address: Ray: the cluster whose nodes the workers run on: local starts one on this
            machine for the time of the run; auto, HOST:PORT or ray://HOST:PORT is one that runs
            already.
        ray_device: Ray: one worker for each GPU, or workers that take CPUs alone; auto takes
            GPUs if the cluster has any. One of auto, gpu, cpu.
        num_workers: Number of workers to start; 0 with port waits for external workers; all, on
            Ray, is as many as the cluster has room for at any time.
        threads: Threads of a native engine in each worker; by default cores / workers.
        port: Port where external workers may join at any time: kipper worker
            --coordinator=HOST:PORT. By default no external workers may join.
        host: Name or address of this host for other hosts; by default its host name.
        transport: Protocol between coordinator and workers: Courier, for closed networks only,
            or gRPC with mutual TLS. One of courier, grpc_tls.
        certificates: Folder made by kipper certificates, for transport=grpc_tls.
        allow_open_network: Let Courier listen on a public network; a firewall must protect the
            port.
        verify_fraction: Share of kernel blocks that a second worker recomputes and compares;
            with 1, every number used has been confirmed by two workers.
        mixed_numerics: Let workers and coordinators take part although their arithmetic differs
            from that with which the run began: the result's bits then depend on which worker
            computed what, and verification compares unlike workers within rounding.
        chaos: Faults that the run injects into its own workers, without effect on results (for
            lies, this is certain only with verify_fraction=1):
            kill:20s,freeze:30s,drop:0.05,delay:200ms,corrupt:0.01,lie:0.01,seed=7.
        dashboard: Address HOST:PORT of the run's live page; port 0 takes a free port, none
            disables the page. At addresses that other machines can reach, the page needs the
            token in the URL that the run prints.
        dashboard_open: Show the live page to anyone who can reach its address, without a token.
        log_format: Format of logs: lines of text, or one JSON object a line. One of text, json.
        overwrite: Remove the run that the workdir holds, and start afresh.

    Raises:
        UserError: the data or a setting cannot be used; `wait` raises those of the workdir.
    """
    ...
