"""Names of the kernel engines; what they are is the workers' business."""

ENGINES = ("auto", "neural_tangents", "dense", "banded_xla", "banded_cpu")
