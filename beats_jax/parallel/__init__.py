"""Many devices and many processes: the mesh, batches on it, and the start of a process of a job."""
