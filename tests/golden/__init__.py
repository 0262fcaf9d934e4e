"""Stories and log entries whose outcome must stay as it is."""
