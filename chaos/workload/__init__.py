"""The clients of a chaos run: producers, workers and readers, every call of theirs recorded."""
