"""How the product is run: locally for a look, in containers for real."""
