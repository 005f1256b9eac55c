"""What a piece of work needs: memory, disk, time and money, worked out before anything runs."""
