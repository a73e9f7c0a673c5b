"""What levels are made from: tables of any make, gauge readings and whether they are plausible, dated scenes, and which go together."""
