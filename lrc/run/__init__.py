"""What runs a model: loading, text, sampling, generating."""
