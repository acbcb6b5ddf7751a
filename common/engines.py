"""Names of the kernel engines; what they are is the workers' business."""

ENGINES = ("auto", "neural_tangents", "banded_xla", "banded_cpu")
