"""Images: finding them, knowing them by their bytes, decoding them, and saying what was refused."""
