"""Dense linear algebra in C++; `build` compiles it, `kipper.common.linalg` calls it."""
