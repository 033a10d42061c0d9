"""The eleven benchmarks of the paper (section 5), one file each, and reasoning-gym tasks beside them."""
