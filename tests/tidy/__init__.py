"""Style as failing tests."""
