"""From a given model's latents to a stream and back, and its transforms tile by tile."""
