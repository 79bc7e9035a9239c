"""What people think of a sentence's region, kept under the CT's content hash."""
