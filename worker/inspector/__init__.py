"""A vision language model learns to inspect boards: adapters beside it, and what they are worth."""
