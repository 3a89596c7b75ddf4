"""Generators of spectrograms: training on images, drawing, sound, and reports."""
