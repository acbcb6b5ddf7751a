"""Decides which worker computes which block: rules, state machine, replayable log."""
