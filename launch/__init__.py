"""Starting runs: command line, Python interface, Launchpad program; imports every room."""
