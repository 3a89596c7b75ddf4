"""Numbers, intervals, figures and reports from predictions."""
