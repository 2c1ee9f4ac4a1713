"""The entries of the catalogue, room by room as the formulas are."""
