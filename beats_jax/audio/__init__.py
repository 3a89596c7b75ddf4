"""Waveforms: decoding, resampling, filterbanks, augmentation, synthesis. Knows nothing of labels, models or what files mean."""
