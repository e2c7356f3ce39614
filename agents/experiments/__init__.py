"""Many runs: grids of methods and seeds, the search for their settings, the table that comes of them."""
