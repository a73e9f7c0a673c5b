"""Water levels of reservoirs from dated scenes: chips of each date for training, and the two roads from a scene to a level."""
