"""The result of a run as an object: its arrays and scores, and all that can be done with them."""

import contextlib
import dataclasses
import functools
import html
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kipper.common.datasets import Dataset
from kipper.common.errors import UserError
from kipper.common.files import written_for
from kipper.common.numbers import percent, r_squared
from kipper.common.settings import (
    ComputeSettings,
    EvaluateSettings,
    ExportSettings,
    TransferSettings,
)
from kipper.common.settings.values import fitted_values
from kipper.launch.interface.folder import RunFolder, as_path
from kipper.launch.interface.given import (
    Asked,
    Given,
    GivenImages,
    given_data,
    given_images,
    given_test_set,
)
from kipper.launch.interface.notebook import show_figures
from kipper.launch.interface.pictures import inline_picture
from kipper.launch.interface.predictor import Predictor
from kipper.launch.interface.progress import said_lines
from kipper.launch.interface.signatures import naming_keywords, takes_settings
from kipper.server.distilled_set import (
    DistilledSet,
    Recipe,
    own_recipe_path,
    save_distilled,
    save_recipe,
)
from kipper.server.measures import ACCURACY, R_SQUARED, Measure, Score
from kipper.server.report.run_files import RunFiles, read_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kipper.launch.commands.evaluate import FileEvaluation
    from kipper.launch.commands.natural import NaturalEvaluation

# What a method of `Result` sets itself.
_OF_THE_SET = ("distilled", "dataset", "json")
_OF_NATURAL = (*_OF_THE_SET, "natural", "seeds", "figure")


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

    def __init__(
        self,
        found: DistilledSet,
        folder: RunFolder,
        run: RunFiles | None = None,
        held: Dataset | None = None,
        scratch: RunFolder | None = None,
    ):
        self.images = found.images
        self.labels = found.labels
        self.temperature = found.temperature
        self.path = found.path
        self.workdir = folder.path
        self.step = found.made.step if found.made is not None else None
        self._found = found
        self._folder = folder
        self._run = run
        # The data set, if it is in memory, which `evaluate` finds by its name while this holds it;
        # and the folder of the set's file, if that is not the run's.
        self._held = held
        self._scratch = scratch
        test = found.made.test if found.made is not None else None
        self.summary = run.result.record() if run and run.result else {}
        natural = run.natural if run is not None else None
        self.test_accuracy = _value(test, ACCURACY)
        self.natural_accuracy = _value(natural, ACCURACY)
        self.test_r2 = _value(test, R_SQUARED)
        self.natural_r2 = _value(natural, R_SQUARED)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": None}

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._found.recipe.class_names if self._found.recipe is not None else ()

    @functools.cached_property
    def pixels(self) -> np.ndarray:
        """The images (n, h, w, c) as float32 in the space of the training images, for viewing.

        Raises:
            UserError: the set has no preprocessing.npz.
        """
        return self._recipe.preprocessing.invert(self.images.astype(np.float32))

    @property
    def _recipe(self) -> Recipe:
        if self._found.recipe is None:
            raise UserError(
                f"{self.path} has no preprocessing.npz beside it, without which its images have no "
                "meaning; evaluate(data, preprocess=…, architecture=…) fits one."
            )
        return self._found.recipe

    @functools.cached_property
    def _predictor(self) -> Predictor:
        recipe = self._recipe
        names = {field.name for field in dataclasses.fields(ComputeSettings)}
        known = {name: value for name, value in recipe.settings.items() if name in names}
        compute = ComputeSettings(**{"dataset": "", **known})
        return Predictor(
            self.images,
            self.labels,
            recipe.preprocessing,
            recipe.target_mean,
            compute.architecture,
            compute.kernel,
            compute.kernel_dtype,
            compute.ridge,
        )

    def decision_values(self, images: GivenImages) -> np.ndarray:
        """What the distilled set predicts for images: a value for each class, or the targets.

        Args:
            images: (N, h, w, c), (N, c, h, w) or (N, h, w), raw, on the scale of the training
                images; also as pictures of Pillow, tensors and lists.

        Returns:
            (N, C) float64. The largest value is at the predicted class; they are no probabilities.

        Raises:
            UserError: the images do not fit the set.
        """
        recipe = self._recipe
        found = given_images(images, self.images.shape[1:], recipe.pixel_range)
        return self._predictor.decision_values(found)

    def predict(self, images: GivenImages) -> np.ndarray:
        """The class (N,) int64 that the set predicts for each image; of a regression the targets.

        Args:
            images: as for `decision_values`.

        Raises:
            UserError: the images do not fit the set.
        """
        values = self.decision_values(images)
        return values.argmax(axis=1) if self._recipe.target_mean is None else values

    @takes_settings(EvaluateSettings, without=_OF_NATURAL)
    def evaluate(self, *data: Given, **settings: object) -> "FileEvaluation":
        """Measures the set on test images, by default on those of its run.

        Args:
            *data: other data: a data set or its name, of which the test images are used; or images
                and labels, on the scale of the training images, in any form that
                `kipper.load_data` takes. All of them are used, unless `test_limit` is given or the
                data are a name.
            **settings: see below.

        Returns:
            `test_accuracy` or `test_r2`; `test.loss`, half the mean squared error;
            `agrees_with_record`, whether the run measured the same, or None if it measured with
            other settings or data; and `record()`, all of it for JSON.

        Raises:
            UserError: the data or a setting cannot be used, or they do not fit the set.
        """
        from kipper.launch.commands.evaluate import evaluate_file

        values = fitted_values((EvaluateSettings,), settings, without=_OF_NATURAL)
        with self._reading(data, to_test=True) as of_data:
            return evaluate_file(
                EvaluateSettings(distilled=str(self.path), **{**of_data, **values})
            )

    @contextlib.contextmanager
    def _reading(self, data: Sequence[Given], to_test: bool = False) -> Iterator[dict[str, Any]]:
        """The settings that name the data, which are held while the block runs; {} for none.

        Images and labels are a test part if the set is `to_test`, else a training part of which
        some are set apart.
        """
        if not data:
            yield {}
            return
        recipe = self._found.recipe
        seed = recipe.settings["seed"] if recipe is not None else 0
        if to_test and len(data) <= 2 and not isinstance(data[0], Dataset | str | os.PathLike):
            pixel_range = recipe.pixel_range if recipe is not None else (0.0, 1.0)
            given = given_test_set(data, self.class_names, pixel_range)
        else:
            given = given_data(data, Asked(seed=seed))
        values: dict[str, Any] = {"dataset": given.name, "data_dir": given.data_dir}
        held = data[0] if isinstance(data[0], Dataset) else given.held
        is_of_run = recipe is not None and recipe.settings.get("dataset") == given.name
        if held is not None and not is_of_run:  # the run's limit was for the run's data
            values["test_limit"] = len(held.x_test)
        yield {name: value for name, value in values.items() if value is not None}

    def natural(
        self,
        sizes: Sequence[int],
        *data: Given,
        seeds: int = 3,
        figure: str | os.PathLike[str] | None = None,
    ) -> "NaturalEvaluation":
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
        from kipper.launch.commands.natural import evaluate_natural

        if isinstance(sizes, str) or not isinstance(sizes, Iterable):
            raise UserError(f"sizes is {sizes!r:.60}; it must be numbers, such as [10, 100, 1000].")
        given = {"seeds": seeds, "figure": figure, "natural": ",".join(map(str, sizes))}
        values = fitted_values((EvaluateSettings,), given)
        with (
            naming_keywords({"natural": "sizes", "seeds": "seeds"}),
            self._reading(data) as of_data,
        ):
            return evaluate_natural(
                EvaluateSettings(distilled=str(self.path), **{**of_data, **values})
            )

    @takes_settings(TransferSettings, without=_OF_THE_SET)
    def transfer(self, *data: Given, verbose: bool = True, **settings: object) -> dict[str, Any]:
        """Trains finite networks on the set and tests them.

        transfer.json, its curve and a figure go to `output`.

        Args:
            *data: as for `kipper.start`; by default those of the run.
            verbose: whether to show progress: its newest line in a notebook, lines on stderr
                elsewhere.
            **settings: see below.

        Returns:
            The content of transfer.json: `test_accuracy`, the mean over networks, its
            `test_accuracy_spread`, the `networks`, and `kernel_regression` for comparison.

        Raises:
            UserError: a setting cannot be used, the run's data are not at hand, or the set is of a
                regression.
        """
        from kipper.launch.commands.transfer.command import all_kernels, transfer

        given = {"output": self.workdir, **settings}
        values = fitted_values((TransferSettings,), given, without=_OF_THE_SET)
        with self._reading(data) as of_data:
            own = TransferSettings(distilled=str(self.path), **{**of_data, **values})
            return (all_kernels if own.all_kernels else transfer)(own, said_lines(verbose))

    def export(self, to: str, path: str | os.PathLike[str]) -> pathlib.Path:
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
        from kipper.launch.commands.export import exported

        given = {"to": to, "output": as_path(path, "path")}
        values = fitted_values((ExportSettings,), given)
        with naming_keywords({"to": "to", "output": "path"}):
            return exported(ExportSettings(distilled=str(self.path), **values))

    def save(self, path: str | os.PathLike[str]) -> pathlib.Path:
        """Keeps the result, to be read by `kipper.load`.

        Args:
            path: FILE.npz for the set alone, with FILE.preprocessing.npz beside it; or a new folder
                for a copy of everything in `workdir`, where the run can be resumed.

        Returns:
            The path.

        Raises:
            UserError: the folder exists, or cannot be written.
        """
        target = as_path(path, "path")
        if target.suffix == ".npz":
            with written_for(str(target), target):
                target.parent.mkdir(parents=True, exist_ok=True)
                if self._found.recipe is not None:
                    save_recipe(own_recipe_path(target), self._found.recipe)
                save_distilled(target, self._found.support)
            return target
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise UserError(f"{target} exists already; give a new folder, or FILE.npz.")
        with written_for(str(target), target):
            locks = shutil.ignore_patterns(".*lock")
            shutil.copytree(self.workdir, target, dirs_exist_ok=True, ignore=locks)
        return target

    def plot(self, figure: str = "distilled") -> "Figure":
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
        from kipper.launch.interface.pictures import figures_of_result

        show_figures()
        figures = figures_of_result(self._run, self._found)
        if figure not in figures:
            known = ", ".join(figures)
            raise UserError(f"figure is {figure!r}; of this set there are {known}.")
        return figures[figure]()

    def report(self) -> pathlib.Path:
        """Draws the run's figures again and writes its report.html; returns its path.

        Raises:
            UserError: the set is not in the folder of a run.
        """
        from kipper.server.report.writing import write_report

        if self._run is None:
            raise UserError(f"{self.path} is not in the folder of a run, which a report is about.")
        write_report(read_run(self.workdir))
        return self._run.workdir.report

    def __repr__(self) -> str:
        return f"<kipper.Result: {'; '.join(self._facts())}>"

    def _facts(self) -> list[str]:
        shape = "x".join(map(str, self.images.shape[1:]))
        facts = [f"{len(self.images)} images {shape}"]
        if self.test_accuracy is not None:
            before = self.natural_accuracy
            natural = "" if before is None else f"natural images {percent(before)}, "
            facts.append(f"test accuracy: {natural}distilled {percent(self.test_accuracy)}")
        if self.test_r2 is not None:
            before = self.natural_r2
            natural = "" if before is None else f"natural images {r_squared(before)}, "
            facts.append(f"test R²: {natural}distilled {r_squared(self.test_r2)}")
        if self.step:
            facts.append(f"{self.step:,} steps")
        temporary = " (temporary)" if self._folder.is_temporary else ""
        place = self.path if self._run is None else self.workdir
        return [*facts, f"{place}{temporary}"]

    def _repr_html_(self) -> str:
        *facts, place = map(html.escape, self._facts())
        picture = ""
        if self._found.recipe is not None:
            names = self.class_names
            classes = self.labels.argmax(axis=1) if names else None
            picture = inline_picture(self.images, classes, self._found.recipe)
        return f"<div>{picture}<div>{' · '.join(facts)}<br><small>{place}</small></div></div>"


def _value(score: Score | None, measure: Measure) -> float | None:
    """The value of a score by a measure; None if it is by another."""
    return score.value if score is not None and score.measure is measure else None
