"""How good levels are: figures, charts, pages."""
