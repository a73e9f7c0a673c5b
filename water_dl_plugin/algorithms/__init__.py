"""Processing algorithms: one thin class per file, over the engine."""
