"""What recorders write about a recording: chunks inside the file, files beside it, and its name."""
