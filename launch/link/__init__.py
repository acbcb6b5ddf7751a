"""Both ends of the conversation between coordinator and workers, and what carries it."""
