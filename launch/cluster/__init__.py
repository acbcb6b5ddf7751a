"""Runs on many hosts: by ssh, by Slurm."""
