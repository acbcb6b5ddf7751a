"""Processes of this machine: how they start, are kept running, and are asked to stop."""
