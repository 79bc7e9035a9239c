"""Finding similar reports and studies."""
