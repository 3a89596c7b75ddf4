"""Networks that make spectrograms: see docs/generative.md."""
