"""A cluster of real engines on a virtual clock, with a network and disks that fail."""
