"""Pictures and their classes: data sets, a vision language model with a head, its training, its answers."""
