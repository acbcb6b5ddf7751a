"""Values that all processes share; imports no other room."""
