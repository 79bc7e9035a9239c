"""The page and the command line; the only package that imports gradio."""
