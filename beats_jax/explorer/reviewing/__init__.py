"""The page of `review`: a mosaic of clips, keys and verdicts."""
