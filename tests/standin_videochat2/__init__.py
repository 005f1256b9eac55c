"""A repository of VideoChat2_HD's surface, with code and weights, small enough for a test."""
