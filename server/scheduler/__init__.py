"""Who gets which block: rules, state machine, and the log that replays it."""
