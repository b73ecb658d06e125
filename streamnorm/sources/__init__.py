"""Sources: one module a kind of data; `registry` recognises them."""
