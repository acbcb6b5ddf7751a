"""Workers: kernel engines and the service around them; imports only `common`."""
