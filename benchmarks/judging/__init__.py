"""From samples to verdicts: pure arithmetic, nothing is measured here."""
