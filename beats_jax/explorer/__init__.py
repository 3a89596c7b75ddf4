"""The page: views only. Whatever they show is computed below, by functions of Python."""
