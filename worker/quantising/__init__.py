"""A model is made four bits a number, as samples show where it can bear it; and held against what it was."""
