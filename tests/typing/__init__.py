"""The types users see, checked by mypy."""
