"""What the doctor runs in processes of their own."""
