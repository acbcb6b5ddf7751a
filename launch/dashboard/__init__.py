"""The live page of a run: what is served, and what is shown."""
