"""Reading the data trees: where they are, raw headers, the frame index and the assets."""
