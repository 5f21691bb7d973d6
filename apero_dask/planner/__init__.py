"""From run file, frame index and snapshot to a plan: pure functions of their arguments."""
