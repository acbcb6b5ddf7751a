"""Predictions of a distilled set for images in memory."""

import dataclasses
import functools

import numpy as np

from kipper.common import linalg
from kipper.common.errors import UserError
from kipper.common.preprocessing import Preprocessing
from kipper.launch.kernels import kernel
from kipper.server import krr


@dataclasses.dataclass(frozen=True, eq=False)
class Predictor:
    """Kernel ridge regression on a distilled set.

    Attributes:
        images: (n, h, w, c), preprocessed.
        labels: (n, C) float64.
        preprocessing: from raw pixels to the space of `images`.
        target_mean: (C,), added to predictions of targets; None for classes.
        architecture, kind, dtype: those of the kernel; see `kipper.kernel`.
        ridge: see `krr.Factor`.
        engine: implementation of the kernel, as the setting of that name.
    """

    images: np.ndarray
    labels: np.ndarray
    preprocessing: Preprocessing
    target_mean: np.ndarray | None
    architecture: str
    kind: str
    dtype: str
    ridge: float
    engine: str = "auto"

    def decision_values(self, images: np.ndarray) -> np.ndarray:
        """The values (N, C) float64 that the regression predicts for raw images (N, h, w, c).

        Raises:
            UserError: the images have another shape than the set's.
            NumericalError: the regression could not be solved.
        """
        if images.shape[1:] != self.images.shape[1:]:
            raise UserError(
                f"The images are of shape {images.shape[1:]}; those of the distilled set are of "
                f"{self.images.shape[1:]}."
            )
        k_ts = self._kernel(self.preprocessing.apply(images), self._support)
        values = linalg.matmul(k_ts, self._coefficients)
        return values if self.target_mean is None else values + self.target_mean

    @property
    def _support(self) -> np.ndarray:
        return self.images.astype(self.dtype)

    @functools.cached_property
    def _coefficients(self) -> np.ndarray:
        return krr.Factor(self._kernel(self._support), self.ridge).solve(self.labels)

    def _kernel(self, x1: np.ndarray, x2: np.ndarray | None = None) -> np.ndarray:
        return kernel(
            x1,
            x2,
            architecture=self.architecture,
            kernel=self.kind,
            # By default float32 arithmetic, whose K_ss is a float64 array.
            dtype=None if self.dtype == "float32" else self.dtype,
            engine=self.engine,
        ).astype(np.float64)
