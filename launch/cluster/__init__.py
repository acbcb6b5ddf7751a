"""Runs spread over many hosts: by ssh, by Slurm, by Kubernetes."""
