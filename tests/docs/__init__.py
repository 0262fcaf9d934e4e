"""The documents are run: what they tell a reader to type works."""
