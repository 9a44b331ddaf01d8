"""Pictures: reading and writing them with what belongs to them, comparing and showing them."""
