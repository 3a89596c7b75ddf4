"""The page on which clusters are refined: views only."""
