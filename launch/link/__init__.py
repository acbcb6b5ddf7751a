"""The connection between coordinator and workers: both ends, and the transports."""
