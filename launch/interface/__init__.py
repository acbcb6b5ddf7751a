"""The Python interface: runs, their results, and a scikit-learn estimator."""
