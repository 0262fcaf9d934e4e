"""Real nodes as child processes on this machine: for the demo, for tests, for a first look."""
