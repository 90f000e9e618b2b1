"""The contract between the services of Watchroom, and the plumbing that at least two of them use."""

__version__ = "0.1.0"
