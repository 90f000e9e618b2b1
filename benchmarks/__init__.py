"""One module a figure; each prints one JSON line last."""
