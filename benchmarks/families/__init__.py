"""What is measured, a file per family of figures."""
