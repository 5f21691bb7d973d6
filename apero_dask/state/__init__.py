"""State of a data root: written by the driver alone, rebuilt from markers when lost."""
