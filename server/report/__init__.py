"""Figures and report.html of a run, made of its files alone."""
