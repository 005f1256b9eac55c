"""A low-priority cluster of Azure ML, and the blob container that its workers read and write."""
