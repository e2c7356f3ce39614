"""What people look at: tables, episodes, pages, pictures."""
