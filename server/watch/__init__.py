"""What the live page shows of a run in progress; does no input or output, in bounded memory."""
