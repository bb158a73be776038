"""Layouts over many devices: tensor, sequence, pipeline, data and expert parallelism."""
