"""Is the text clean: defects found in sources before anything is trained on them, and kept with the source's version."""
