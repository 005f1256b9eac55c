"""What a person reads when the work is done, or looks at while it runs."""
