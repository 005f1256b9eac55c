"""Videos and pictures in, frames and drawings out."""
