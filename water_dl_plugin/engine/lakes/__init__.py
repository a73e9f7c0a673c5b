"""Lakes as features: their areas on the ellipsoid, inventories, what lies on what, counts by size and elevation, found and missed ones."""
