"""What needs gradients: the backward pass, from operations to models, and what tunes by it."""
