"""Finite networks trained on a distilled set, and the kernels that it serves."""
