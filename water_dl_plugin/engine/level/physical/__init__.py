"""From water to a level without a network: areas, area-level curves, the dry basin, the shoreline."""
