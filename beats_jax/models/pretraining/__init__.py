"""Modules that only pre-training needs: tokenizers, quantizers, predictors."""
