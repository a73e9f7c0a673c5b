"""How good an elevation model is: errors against a reference, beside interpolations, after coregistration; the report."""
