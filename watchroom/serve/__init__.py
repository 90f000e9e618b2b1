"""Top layer: the only modules of the shared package that wire services together."""
