"""Chips of reservoirs: where they lie, what clouds hide, how dates are shared out, and the folder that is made of it."""
