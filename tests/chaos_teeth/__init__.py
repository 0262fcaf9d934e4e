"""Whether the chaos suite bites: real nodes with one rule taken out, and the suite on them."""
