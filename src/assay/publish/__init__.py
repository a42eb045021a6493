"""Who sees it: the page, Markdown, the terminal and W&B. All derived from the store, none ever read back."""
