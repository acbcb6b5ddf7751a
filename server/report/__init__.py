"""Figures and report.html of a run, made from its files alone."""
