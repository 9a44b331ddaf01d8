"""Pictures to .flic files and back; which step a rate, a quality or a size asks for."""
