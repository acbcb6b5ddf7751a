"""What the live page shows of a run in progress: no input or output, bounded memory."""
