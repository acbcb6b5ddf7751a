"""The figures of a run: pure functions of arrays and records to matplotlib figures."""
