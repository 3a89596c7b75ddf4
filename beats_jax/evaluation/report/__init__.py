"""Reports: one page, two renderers."""
