"""TensorFlow Datasets without TensorFlow (extra `tfds`)."""
