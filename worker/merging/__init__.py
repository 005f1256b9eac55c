"""An adapter becomes part of the model that it was trained beside: file by file, in little memory."""
