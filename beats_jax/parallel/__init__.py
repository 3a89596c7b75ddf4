"""Devices and hosts: meshes, where arrays lie, several processes. Training and inference both need it."""
