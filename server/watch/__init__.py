"""What onlookers are shown of a run while it goes on: pure, and bounded in memory."""
