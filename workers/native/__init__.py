"""The banded algorithm in C++; `build` compiles it, `kipper.workers.banded_cpu` calls it."""
