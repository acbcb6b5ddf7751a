"""What coordinator, workers and launchers share; imports none of them."""
