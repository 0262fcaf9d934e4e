"""The machine against a naive queue, on histories nobody wrote."""
