"""What people read: run folders, tables, pictures, pages, the screen."""
