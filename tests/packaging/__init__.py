"""What installers make of the tree."""
