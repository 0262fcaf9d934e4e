"""What is under `deploy` and the Compose file: checked as text, and run as processes."""
