"""The simple Python door: a feature extractor and a trainer, thin on the rooms behind them."""
