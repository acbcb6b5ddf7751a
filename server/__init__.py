"""The coordinator: tiling, dispatch, regression, descent; imports only `common`."""
